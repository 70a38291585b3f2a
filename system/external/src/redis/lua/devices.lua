-- ARGV: cursor of a scan, pattern of the keys of devices, keys looked at in one step.
-- Answers {next cursor, key, route or nil, time of the last change or nil, …}.
local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
return tell({step[1]}, step[2])
