-- KEYS: devices routed to a node, in each slot. ARGV[1]: what keys of devices begin with. ARGV[2]: most devices. Then for each slot
-- its tag. Answers {device, route, …}.
local answer = {}
local left = tonumber(ARGV[2])
for slot, key in ipairs(KEYS) do
  if left <= 0 then break end
  local ids = redis.call('SRANDMEMBER', key, left)
  left = left - #ids
  for _, id in ipairs(ids) do
    local route = redis.call('HGET', ARGV[1] .. ARGV[slot + 2] .. ':' .. id, 'r')
    answer[#answer + 1], answer[#answer + 2] = id, route
  end
end
return answer
