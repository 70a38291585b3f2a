-- KEYS: watermarks of each slot. Answers one list a slot: {source, watermark, …}.
local answer = {}
for slot, key in ipairs(KEYS) do answer[slot] = redis.call('HGETALL', key) end
return answer
