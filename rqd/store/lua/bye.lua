-- bye: a master that leaves in good order takes its rows with it.
-- KEYS[1]  {ns}:queues
-- ARGV     master, its boot id, the highest worker number it ever had
-- returns  1, or 0 if another master has the name by now
-- Safe to send twice: it deletes.
--@ names
local master = ARGV[1]
if redis.call('HGET', P .. 'master:' .. master, 'boot') ~= ARGV[2] then return 0 end
redis.call('ZREM', P .. 'masters', master)
redis.call('DEL', P .. 'master:' .. master, P .. 'control:' .. master,
  P .. 'wake:master:' .. master, P .. 'turn:' .. master)
for number = 1, tonumber(ARGV[3]) do redis.call('DEL', P .. 'worker:' .. master .. ':' .. number) end
return 1
