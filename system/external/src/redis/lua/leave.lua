-- ARGV: node. See `join` for why a delete comes first.
redis.call('HDEL', claims, '')
redis.call('ZADD', nodes, 'XX', 'LT', text(now), ARGV[1])
return redis.status_reply('OK')
