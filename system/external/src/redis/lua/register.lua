-- ARGV[4]: node. Then for each device: device, connection. Answers {connection epoch, route before or nil, …}, or nil when the
-- node is not known: nobody would sweep its routes.
local node = ARGV[4]
if not redis.call('ZSCORE', KEYS[1], node) then return false end
local answer = {}
for at = 5, #ARGV, 2 do
  local device = ARGV[at]
  local known = redis.call('HMGET', devices .. device, 'c', 'r')
  local epoch = text(math.max(now, (tonumber(known[1]) or 0) + 1))
  local route = epoch .. '/' .. ARGV[at + 1] .. '/' .. node
  redis.call('HSET', devices .. device, 'r', route, 'c', epoch, 't', text(now))
  redis.call('PERSIST', devices .. device)
  redis.call('PERSIST', queues .. device)
  local before = known[2] and node_of(known[2])
  if before and before ~= node then
    local index, id = index_of(device, before)
    redis.call('SREM', index, id)
  end
  local index, id = index_of(device, node)
  redis.call('SADD', index, id)
  note(device, route)
  answer[#answer + 1], answer[#answer + 2] = epoch, known[2]
end
return answer
