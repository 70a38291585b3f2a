-- Length, top position, first entry and last position's epoch of a queue; nothing when there is none. Positions have no
-- holes, so the lowest stored one is top + 1 - length.
local function look(queue)
  local info = redis.pcall('XINFO', 'STREAM', queue)
  if info.err then return nil end
  local length, top, first
  for i = 1, #info, 2 do
    if info[i] == 'length' then length = info[i + 1]
    elseif info[i] == 'last-generated-id' then top = tonumber(string.match(info[i + 1], '%-(%d+)$'))
    elseif info[i] == 'first-entry' then first = info[i + 1] end
  end
  return length, top, first
end
