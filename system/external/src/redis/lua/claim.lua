-- ARGV: milliseconds of the claim, until when the caller waits for the answer. Answers {node}, or {} when none is dead and free. Of
-- several the one that was never claimed goes first, then the one whose claim ended first, then the one that died first.
-- A claim that was held up on its way would take a node whose renewal was held up with it.
if now > tonumber(ARGV[2]) then return {} end
local chosen, chosen_claim
for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', text(now))) do
  local claim = tonumber(redis.call('HGET', claims, node) or 0)
  if claim <= now and (not chosen or claim < chosen_claim) then chosen, chosen_claim = node, claim end
end
if not chosen then return {} end
redis.call('HDEL', claims, chosen)
redis.call('HSET', claims, chosen, text(now + ARGV[1]))
return {chosen}
