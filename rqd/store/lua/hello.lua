-- hello: a master takes its name, unless a live master has it.
-- KEYS[1]  {ns}:queues
-- ARGV     master, its boot id, time to live of the row in s, then fields and values of its row
-- returns  {'ok', now us} or {'taken', host, pid}
-- Safe to send twice: the boot id tells a replay from another master.
--@ names
local master, boot = ARGV[1], ARGV[2]
local row = P .. 'master:' .. master
local held = redis.call('HMGET', row, 'boot', 'host', 'pid')
if held[1] and held[1] ~= boot then return { 'taken', held[2] or '?', held[3] or '?' } end
local now = now_us()
redis.call('HSET', row, 'boot', boot, 'heartbeat', int(now), 'started', int(now), unpack(ARGV, 4))
redis.call('EXPIRE', row, tonumber(ARGV[3]))
redis.call('ZADD', P .. 'masters', int(now), master)
redis.call('DEL', P .. 'control:' .. master)
return { 'ok', int(now) }
