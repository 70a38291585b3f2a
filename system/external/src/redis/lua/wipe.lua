-- ARGV[1]: pattern of the keys of queues. Empties the whole server. Answers {milliseconds since 1970, keys of queues before}.
local at, queues = '0', {}
repeat
  local page = redis.call('SCAN', at, 'MATCH', ARGV[1], 'COUNT', 1024)
  at = page[1]
  for _, key in ipairs(page[2]) do queues[#queues + 1] = key end
until at == '0'
redis.call('FLUSHALL', 'SYNC')
return {text(now), queues}
