-- KEYS[5…]: devices routed to the node, in each slot. ARGV: node. Answers 1 when it is gone.
local lease_end = redis.call('ZSCORE', nodes, ARGV[1])
if not lease_end then return 1 end
if tonumber(lease_end) > now then return 0 end
for at = 5, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 1 then return 0 end
end
redis.call('ZREM', nodes, ARGV[1])
redis.call('HDEL', about, ARGV[1])
redis.call('HDEL', claims, ARGV[1])
return 1
