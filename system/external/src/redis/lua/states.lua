-- KEYS[1]: the incarnation. ARGV[1], ARGV[2]: what keys of queues and of devices begin with. Then devices.
-- Answers one list a device: {epoch, floor, base, top, milliseconds its oldest item has waited}, or nil without a queue.
-- A queue of an older incarnation gets that one's epoch when it is next written or read, so it is told as if it had it.
local oldest_epoch = tonumber(redis.call('HGET', KEYS[1], 'ms') or 0)
local answer = {}
for at = 3, #ARGV do
  local known = redis.call('HMGET', ARGV[2] .. ARGV[at], 'e', 'f')
  local length, top, first = look(ARGV[1] .. ARGV[at])
  if known[1] and length then
    local epoch = text(math.max(tonumber(known[1]), oldest_epoch))
    local waited = first and math.max(now - tonumber(first[2][1]), 0) or 0
    answer[#answer + 1] = {epoch, known[2], text(top + 1 - length), text(top), text(waited)}
  else
    answer[#answer + 1] = false
  end
end
return answer
