-- ARGV: cursor of a scan, pattern of the keys of devices, keys looked at in one step.
-- Answers {next cursor, key, route or nil, time of the last change or nil, …}.
local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local answer = {step[1]}
for _, key in ipairs(step[2]) do
  local known = redis.call('HMGET', key, 'r', 't')
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = key, known[1], known[2]
end
return answer
