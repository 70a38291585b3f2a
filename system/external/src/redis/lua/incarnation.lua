-- KEYS[1]: the incarnation, a hash of `ms`, `born` (the `ms` that began empty), `run` (the server's run_id) and `top` (highest
-- epoch of any queue).
-- Answers {ms}. A store that has none is new or was wiped. A server with another run_id has restarted and may have lost
-- its last writes, so every epoch it knows of has to be passed.
if not redis.REDIS_VERSION_NUM or redis.REDIS_VERSION_NUM < 0x00070000 then
  return redis.error_reply('VERSION Redis 7.0 or newer is needed')
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local known = redis.call('HMGET', KEYS[1], 'ms', 'run', 'top', 'born')
if known[1] and known[2] == run then return {known[1]} end
local ms = now
if known[1] then ms = math.max(ms, tonumber(known[1]) + 1, (tonumber(known[3]) or 0) + 1) end
-- A delete is allowed at the memory limit, and what follows a first write is too: trims need a connection to free memory.
redis.call('HDEL', KEYS[1], 'run')
redis.call('HSET', KEYS[1], 'ms', text(ms), 'born', known[4] or text(ms), 'run', run)
return {text(ms)}
