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
    local control = P .. 'control:' .. master
    if is_foreign(control, 'list') then redis.call('DEL', control) end
    redis.call('RPUSH', control, ARGV[1])
    -- Without the marker it is heard with the next beat.
    redis.pcall('ZADD', P .. 'wake:master:' .. master, 0, 'command')
    told[#told + 1] = master
  end
end
return told
