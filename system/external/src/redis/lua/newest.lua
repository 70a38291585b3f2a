-- KEYS[1]: changes of routes. Answers {id of the newest}, or {} when there was none.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
return {newest[1] and newest[1][1]}
