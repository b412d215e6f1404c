-- cron_pause: a cron entry is due at no time, until it is resumed.
-- KEYS[1]  {ns}:queues
-- ARGV     name, version (resuming an entry that was changed meanwhile does nothing); '' to pause, or
--          when its next run is due in us
-- returns  1, or 0 if there is no such entry in this version
-- Safe to send twice: it sets.
--@ names arguments crons
local name, version, due = take(), take(), take()
local key = P .. 'cron:' .. name
local refused = refusal({ key, 'hash', P .. 'cron', 'zset', P .. 'masters', 'zset' }) or garbled()
if refused then return refused end
if redis.call('HGET', key, 'version') ~= version then return 0 end
if due == '' then
  redis.call('HSET', key, 'paused', 1)
  Crons.set_due(name, '+inf')
else
  redis.call('HDEL', key, 'paused', 'error')
  Crons.set_due(name, int(sound(due) or 0))
end
return 1
