-- Entry id of a position. `older` lists epochs before the present one whose items are still stored, each with its last
-- position: `epoch:position;…`.
local function id_of(epoch, older, position)
  if older then
    for was, last in string.gmatch(older, '(%d+):(%d+);') do
      if position <= tonumber(last) then return was .. '-' .. text(position) end
    end
  end
  return epoch .. '-' .. text(position)
end
