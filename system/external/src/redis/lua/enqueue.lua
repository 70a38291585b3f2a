-- KEYS[1]: the incarnation. KEYS[2]: watermarks of the slot. ARGV[3]: items a queue holds. ARGV[4]: items that a full queue loses
-- at once. Then for each source: name, prev, last, incarnation that it knows, number of items; for each item: device, payload.
-- Answers {longest queue, devices whose floor was raised, one list a source}: {'A', id, route or nil, …}, {'D', watermark} or
-- {'G', watermark}. Watermarks are compared as text: equal ones are equal text, and of two the longer is larger.
local most, part = tonumber(ARGV[3]), tonumber(ARGV[4])
local stamp = text(now)
local longest = 0
local answer = {0, raised}
-- The loop below is what the store spends its time on.
local call, width = redis.call, #oldest_name

-- The epoch of a queue that may be new, or of an older incarnation.
local function make_ready(device, epoch)
  local length, top = look(queues .. device)
  if not epoch or not length then return create(device, epoch) end
  if tonumber(epoch) >= oldest_epoch then return epoch end
  local older = redis.call('HGET', devices .. device, 's')
  renumber(device, epoch, older, length, top, oldest_epoch)
  return oldest_name
end

local function cut(device, epoch)
  local length, top = look(queues .. device)
  local left = length - math.min(part, length)
  redis.call('XTRIM', queues .. device, 'MAXLEN', left)
  local newer = math.max(now, tonumber(epoch) + 1)
  local older = redis.call('HGET', devices .. device, 's')
  renumber(device, epoch, older, left, top, newer)
  redis.call('HSET', devices .. device, 'f', text(newer))
  raised[#raised + 1] = device
  return text(newer), left
end

-- Watermarks are read in one command and written in one.
local names, begins, marks, moved = {}, {}, {}, {}
local born = call('HGET', KEYS[1], 'born')
local at, given = 5, #ARGV
while at <= given do
  names[#names + 1], begins[#begins + 1] = ARGV[at], at
  at = at + 5 + 2 * tonumber(ARGV[at + 4])
end
for place, mark in ipairs(call('HMGET', KEYS[2], unpack(names))) do marks[names[place]] = mark end

for place, source in ipairs(names) do
  local begin = begins[place]
  local prev, mark = ARGV[begin + 1], marks[source]
  -- A store that began empty with this incarnation has lost what came before, so the source says where it begins.
  if not mark then mark = ARGV[begin + 3] == born and prev or '0' end
  if mark ~= prev then
    local behind = #prev < #mark or (#prev == #mark and prev < mark)
    answer[#answer + 1] = {behind and 'D' or 'G', mark}
  else
    local stored, last = {'A'}, 2 * tonumber(ARGV[begin + 4])
    for item = 2, last, 2 do
      local device = ARGV[begin + item + 3]
      local queue = queues .. device
      local known = call('HMGET', devices .. device, 'e', 'r')
      local epoch = known[1]
      if not epoch or epoch < oldest_name or #epoch ~= width then epoch = make_ready(device, epoch) end
      local length = call('XLEN', queue)
      if length >= most then epoch, length = cut(device, epoch) end
      local payload = ARGV[begin + item + 4]
      local id = call('XADD', queue, 'NOMKSTREAM', epoch .. '-*', stamp, payload)
      if not id then
        epoch = create(device, epoch)
        id = call('XADD', queue, epoch .. '-*', stamp, payload)
      end
      if length >= longest then longest = length + 1 end
      stored[item], stored[item + 1] = id, known[2]
    end
    marks[source] = ARGV[begin + 2]
    moved[#moved + 1], moved[#moved + 2] = source, marks[source]
    answer[#answer + 1] = stored
  end
end
if #moved > 0 then call('HSET', KEYS[2], unpack(moved)) end
answer[1] = longest
return answer
