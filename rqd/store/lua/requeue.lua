-- requeue: a job that ended without success runs again.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, '1' for at front
-- returns  the status found: failed, stopped, canceled (requeued now), any other (refused), '' (none);
--          'unique <id>' if another job has its unique key by now (refused)
-- Safe to send twice: the second finds it queued or further, and changes nothing.
--@ names ready terms unique limits ending callbacks dependents groups
local id = ARGV[1]
local job = P .. 'job:' .. id
local refused = refusal({ job, 'hash' })
if refused then return refused end
local held = redis.call('HMGET', job, 'status', 'origin', 'priority', 'ttl', 'attempt', 'terms')
local status, queue = held[1] or '', held[2]
if not queue then return '' end
if status ~= 'failed' and status ~= 'stopped' and status ~= 'canceled' then return status end
refused = refusal({ P .. 'queue:' .. queue, 'zset', P .. 'nonempty', 'set',
  P .. 'counters', 'hash' })
if refused then return refused end
local unique = held[6] and unique_of(held[6])
local holder = unique and holder_of(unique)
if holder and holder.id ~= id then return 'unique ' .. holder.id end
if unique and is_foreign(unique.key, 'string') then return refusal({ unique.key, 'string' }) end
redis.pcall('ZREM', P .. 'queue:' .. queue .. ':' .. INDEX[status], id)
for _, key in ipairs({ job, job .. ':results', job .. ':payload' }) do redis.call('PERSIST', key) end
redis.call('HDEL', job, 'cause', 'ended_at')
redis.call('HSET', job, 'enqueued_at', int(now_us()), 'losses', 0)
make_ready(id, queue, next_score(held[3], ARGV[2] == '1'))
-- As in promote: the time to live is of the wait for the first attempt.
local ttl_s = not held[5] and held[4]
if ttl_s then arm_ttl(id, ttl_s) end
if unique then hold_unique(unique, id, ttl_s) end
rejoin_group(held[6], id)
return status
