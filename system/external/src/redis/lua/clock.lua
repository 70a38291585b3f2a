-- Milliseconds since 1970 by the server's clock, the same for the whole script. Such numbers fit a double; `text` keeps
-- all their digits.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function text(number) return string.format('%.0f', number) end
