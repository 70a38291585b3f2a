-- What enqueue and read share: how a queue comes to be and how its epoch rises.
-- KEYS[1]: the incarnation. ARGV[1], ARGV[2]: what keys of queues and of devices begin with.
--
-- A queue is a stream with entries `<epoch>-<position>`: one field, named by the time it was stored at. The hash of its device has
-- `e` queue epoch, `f` floor, `s` epochs of older items (see `id_of`), `r` route, `c` connection epoch, `t` time of the last
-- change of the route.

-- A device without a route is forgotten after 7 days, its queue with it. Its next queue has a newer epoch and floor, so that its
-- cursor is a gap.
local FORGOTTEN_S = 604800
local queues, devices = ARGV[1], ARGV[2]
local raised = {}

-- A store that was wiped gets its incarnation from whoever writes first.
local function incarnation()
  local ms = redis.call('HGET', KEYS[1], 'ms')
  if ms then return tonumber(ms) end
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  redis.call('HSET', KEYS[1], 'ms', text(now), 'born', text(now), 'run', run)
  return now
end
local oldest_epoch = incarnation()
local oldest_name = text(oldest_epoch)

local function remember(epoch)
  local top = tonumber(redis.call('HGET', KEYS[1], 'top') or 0)
  if epoch > top then redis.call('HSET', KEYS[1], 'top', text(epoch)) end
end

local function keep(device)
  if redis.call('HEXISTS', devices .. device, 'r') == 0 then
    redis.call('EXPIRE', devices .. device, FORGOTTEN_S)
    redis.call('EXPIRE', queues .. device, FORGOTTEN_S)
  end
end

-- A new and empty queue. `before`: the epoch it had, when its content is lost. The hash goes first: at the memory limit it is
-- refused, and with it the script, before anything has changed.
local function create(device, before)
  local epoch = math.max(now, oldest_epoch, (tonumber(before) or 0) + 1)
  local name = text(epoch)
  redis.call('HSET', devices .. device, 'e', name, 'f', name)
  redis.call('HDEL', devices .. device, 's')
  redis.call('DEL', queues .. device)
  redis.call('XADD', queues .. device, name .. '-0', '0', '')
  redis.call('XTRIM', queues .. device, 'MAXLEN', 0)
  keep(device)
  remember(epoch)
  if before then raised[#raised + 1] = device end
  return name
end

-- A newer epoch for a queue with `length` items up to `top`, which keep their entries. Answers what `s` is now.
local function renumber(device, before, older, length, top, epoch)
  local base = top + 1 - length
  local kept, newest = '', base - 1
  for was, last in string.gmatch(older or '', '(%d+):(%d+);') do
    if tonumber(last) >= base then
      kept, newest = kept .. was .. ':' .. last .. ';', tonumber(last)
    end
  end
  if top > newest then kept = kept .. before .. ':' .. text(top) .. ';' end
  -- A delete is allowed at the memory limit, and what follows a first write is too: a queue has to be read before it can be trimmed.
  redis.call('HDEL', devices .. device, 's')
  redis.call('XSETID', queues .. device, text(epoch) .. '-' .. text(top))
  redis.call('HSET', devices .. device, 'e', text(epoch), 's', kept)
  remember(epoch)
  return kept
end
