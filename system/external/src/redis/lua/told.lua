-- Adds what an operator is told of devices: for each its key, its route or nil, and the time of that one's last change or nil.
local function tell(answer, keys)
  for _, key in ipairs(keys) do
    local known = redis.call('HMGET', key, 'r', 't')
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = key, known[1], known[2]
  end
  return answer
end
