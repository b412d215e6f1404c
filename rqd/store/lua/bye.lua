-- bye: a master that leaves in good order takes its rows with it.
-- KEYS[1]  {ns}:queues
-- ARGV     master, its boot id, the highest worker number it ever had
-- returns  1, or 0 if another master has the name by now
-- Safe to send twice: it deletes.
--@ names
local master, highest = ARGV[1], sound(ARGV[3])
local refused = refusal({ P .. 'masters', 'zset', P .. 'master:' .. master, 'hash' })
if refused then return refused end
if not highest then return redis.error_reply("ERR these are none of this script's arguments") end
if redis.call('HGET', P .. 'master:' .. master, 'boot') ~= ARGV[2] then return 0 end
redis.call('ZREM', P .. 'masters', master)
redis.call('DEL', P .. 'master:' .. master, P .. 'control:' .. master,
  P .. 'wake:master:' .. master, P .. 'turn:' .. master)
for number = 1, math.min(highest, 1000) do redis.call('DEL', P .. 'worker:' .. master .. ':' .. number) end
return 1
