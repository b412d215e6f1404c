-- cron_remove: a cron entry is gone; the jobs it made stay.
-- KEYS[1]  {ns}:queues
-- ARGV     name, the source it must be of ('' for any)
-- returns  1, or 0 if there is no such entry, or it is of another source
-- Safe to send twice: it deletes.
--@ names arguments
local name, source = take(), take()
local key = P .. 'cron:' .. name
local refused = refusal({ P .. 'cron', 'zset' }) or garbled()
if refused then return refused end
if source ~= '' and redis.pcall('HGET', key, 'source') ~= source then return 0 end
local was_there = redis.call('ZREM', P .. 'cron', name)
return math.max(was_there, redis.call('DEL', key))
