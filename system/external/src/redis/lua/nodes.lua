-- Answers one list a node: {node, address and roles, milliseconds left, negative when the lease has ended}.
local answer = {}
local all = redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES')
for at = 1, #all, 2 do
  answer[#answer + 1] = {all[at], redis.call('HGET', about, all[at]), text(tonumber(all[at + 1]) - now)}
end
return answer
