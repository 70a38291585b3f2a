-- For each route from ARGV[4] on: device, route. Answers 1 for each that was deleted, 0 for each that is another one now.
local answer = {}
for at = 4, #ARGV, 2 do
  local device, route = ARGV[at], ARGV[at + 1]
  local same = redis.call('HGET', devices .. device, 'r') == route
  if same then
    redis.call('HDEL', devices .. device, 'r')
    redis.call('HSET', devices .. device, 't', text(now))
    redis.call('EXPIRE', devices .. device, FORGOTTEN_S)
    redis.call('EXPIRE', queues .. device, FORGOTTEN_S)
    local index, id = index_of(device, node_of(route))
    redis.call('SREM', index, id)
    note(device, '')
  end
  answer[#answer + 1] = same and 1 or 0
end
return answer
