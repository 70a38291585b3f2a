-- KEYS[1]: changes of routes. ARGV: id after which to begin (`0-0`: from the first change ever), most changes.
-- Answers {1, entry, …}, or {0} when changes after that id may be gone.
local after = ARGV[1]
if after ~= '0-0' then
  if #redis.call('XRANGE', KEYS[1], after, after) == 0 then return {0} end
else
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  if info.err then return {1} end
  local length, added
  for i = 1, #info, 2 do
    if info[i] == 'length' then length = info[i + 1] elseif info[i] == 'entries-added' then added = info[i + 1] end
  end
  if length ~= added then return {0} end
end
local answer = {1}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', ARGV[2])) do
  answer[#answer + 1] = entry
end
return answer
