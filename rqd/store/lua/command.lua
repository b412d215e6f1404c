-- command: a message into masters' control lists, and a marker that makes them look.
-- KEYS[1]  {ns}:queues
-- ARGV     the command as JSON with an id, then masters' names
-- returns  the names of those that live
-- Safe to send twice: a master obeys an id once.
--@ names
local told = {}
for i = 2, #ARGV do
  local master = ARGV[i]
  if redis.call('EXISTS', P .. 'master:' .. master) == 1 then
    redis.call('RPUSH', P .. 'control:' .. master, ARGV[1])
    redis.call('ZADD', P .. 'wake:master:' .. master, 0, 'command')
    told[#told + 1] = master
  end
end
return told
