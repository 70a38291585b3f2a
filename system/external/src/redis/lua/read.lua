-- KEYS[1]: the incarnation. ARGV[3]: payload bytes after which a page is full. Then for each page: device, position after which it
-- begins, most items.
-- Answers {devices whose floor was raised, one list a page}: {epoch, floor, base, top, id, payload, …}.
local full = tonumber(ARGV[3])
-- Entries fetched at once, so that a page of large items does not fetch what it will not hold.
local STEP = 16
local answer = {raised}

for at = 4, #ARGV, 3 do
  local device, after, limit = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local queue = queues .. device
  local known = redis.call('HMGET', devices .. device, 'e', 'f', 's')
  local epoch, floor, older = known[1], known[2], known[3]
  local length, top = look(queue)
  if not epoch or not length then
    epoch = create(device, epoch)
    floor, older, length, top = epoch, false, 0, 0
  elseif tonumber(epoch) < oldest_epoch then
    older = renumber(device, epoch, older, length, top, oldest_epoch)
    epoch = text(oldest_epoch)
  end
  keep(device)
  local base = top + 1 - length
  local page = {epoch, floor, text(base), text(top)}
  local from = math.max(after + 1, base)
  if from <= top then
    local bytes, start = 0, id_of(epoch, older, from)
    while limit > 0 and bytes < full do
      local step = math.min(limit, STEP)
      local entries = redis.call('XRANGE', queue, start, '+', 'COUNT', step)
      for _, entry in ipairs(entries) do
        page[#page + 1], page[#page + 2] = entry[1], entry[2][2]
        bytes = bytes + #entry[2][2]
      end
      if #entries < step then break end
      limit, start = limit - step, '(' .. entries[step][1]
    end
  end
  answer[#answer + 1] = page
end
return answer
