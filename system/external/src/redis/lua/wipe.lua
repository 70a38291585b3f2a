-- ARGV: patterns of the keys of queues and of devices, most keys that the server may have. Empties the whole server.
-- Answers {milliseconds since 1970, keys of queues, {key, route or nil, time of the last change or nil, …} of devices} of what was
-- there, or nil when there are more keys; nothing has happened then.
if redis.call('DBSIZE') > tonumber(ARGV[3]) then return false end
local queues = redis.call('KEYS', ARGV[1])
local devices = tell({}, redis.call('KEYS', ARGV[2]))
redis.call('FLUSHALL', 'SYNC')
return {text(now), queues, devices}
