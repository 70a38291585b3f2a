-- ARGV: epoch, name, milliseconds of the lease. Answers 1, or 0 when the lease is not this node's any more.
local node = ARGV[1] .. '/' .. ARGV[2]
-- A claimed node may have lost routes already, so it cannot come back.
if redis.call('HGET', epochs, ARGV[2]) ~= ARGV[1]
  or not redis.call('ZSCORE', nodes, node)
  or redis.call('HEXISTS', claims, node) == 1 then
  return 0
end
-- See `join` for why a delete comes first.
redis.call('HDEL', claims, node)
redis.call('ZADD', nodes, text(now + ARGV[3]), node)
return 1
