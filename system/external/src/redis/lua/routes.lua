-- What the scripts of routes share. A route is `<connection epoch>/<connection>/<node>`; ids are text, since they may be larger
-- than what a number of Lua holds.
-- KEYS[1]: node -> end of its lease. KEYS[2]: changes of routes.
-- ARGV[1], ARGV[2], ARGV[3]: what keys of queues, of devices and of the devices of a node begin with.
local FORGOTTEN_S = 604800
local CHANGES_KEPT = 131072
local queues, devices, routed = ARGV[1], ARGV[2], ARGV[3]

local function node_of(route) return string.match(route, '^%d+/%d+/(.*)$') end

local function index_of(device, node)
  local slot, id = string.match(device, '^({.-}):(%d+)$')
  return routed .. slot .. ':' .. node, id
end

local function note(device, route)
  local _, id = index_of(device, '')
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', CHANGES_KEPT, '*', id, route)
end
