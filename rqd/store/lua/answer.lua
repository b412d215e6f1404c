-- answer: what a master answers to a command that asked for it.
-- KEYS[1]  {ns}:queues
-- ARGV     the command's id, master, the answer as JSON, time to live of all answers to it in s
-- returns  1
-- Safe to send twice: who asked takes the first of each master's answers.
--@ names
local answers, ttl_s = P .. 'answers:' .. ARGV[1], sound(ARGV[4])
if not ttl_s or ttl_s < 1 or #ARGV ~= 4 then
  return redis.error_reply("ERR these are none of this script's arguments")
end
local refused = refusal({ answers, 'stream' })
if refused then return refused end
redis.call('XADD', answers, 'MAXLEN', '~', 10000, '*', 'master', ARGV[2], 'answer', ARGV[3])
redis.call('EXPIRE', answers, int(ttl_s))
return 1
