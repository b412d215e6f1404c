-- command: a message into masters' control lists, and a marker that makes them look.
-- KEYS[1]  {ns}:queues
-- ARGV     the command as JSON with an id, then masters' names
-- returns  the names of those that live
-- Safe to send twice: a master obeys an id once.
--@ names tell
local told = {}
for i = 2, #ARGV do
  if Tell.master(ARGV[i], ARGV[1]) then told[#told + 1] = ARGV[i] end
end
return told
