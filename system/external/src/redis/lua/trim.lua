-- KEYS[1]: the incarnation. ARGV[1], ARGV[2]: what keys of queues and of devices begin with. Then for each ack: device, epoch,
-- highest position that may go. An ack of another epoch than the queue's is skipped.
local oldest_epoch = tonumber(redis.call('HGET', KEYS[1], 'ms') or 0)
for at = 3, #ARGV, 3 do
  local known = redis.call('HMGET', ARGV[2] .. ARGV[at], 'e', 's')
  if known[1] == ARGV[at + 1] and tonumber(known[1]) >= oldest_epoch then
    local first_kept = id_of(known[1], known[2], tonumber(ARGV[at + 2]) + 1)
    redis.call('XTRIM', ARGV[1] .. ARGV[at], 'MINID', first_kept)
  end
end
return redis.status_reply('OK')
