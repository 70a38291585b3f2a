-- ARGV: name, address and roles, milliseconds of the lease. Answers the node epoch.
local name = ARGV[1]
local epoch = text(math.max(now, (tonumber(redis.call('HGET', epochs, name)) or -1) + 1))
-- Leases are kept at the memory limit too: what follows a first write is allowed, and a delete always is.
redis.call('HDEL', claims, '')
-- The name is taken over: whatever had it before is dead from now on.
for _, node in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
  if string.match(node, '^%d+/(.*)$') == name then redis.call('ZADD', nodes, 'LT', text(now), node) end
end
redis.call('HSET', epochs, name, epoch)
redis.call('HSET', about, epoch .. '/' .. name, ARGV[2])
redis.call('ZADD', nodes, text(now + ARGV[3]), epoch .. '/' .. name)
return epoch
