-- ARGV[1]: what keys of devices begin with. Then devices. Answers each one's route, or nil.
local answer = {}
for at = 2, #ARGV do answer[at - 1] = redis.call('HGET', ARGV[1] .. ARGV[at], 'r') end
return answer
