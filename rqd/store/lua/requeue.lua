-- requeue: a job that ended without success runs again.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, '1' for at front
-- returns  the status found: failed, stopped, canceled (requeued now), any other (refused), '' (none)
-- Safe to send twice: the second finds it queued or further, and changes nothing.
--@ names ready ending
local id = ARGV[1]
local job = P .. 'job:' .. id
local refused = refusal({ job, 'hash' })
if refused then return refused end
local held = redis.call('HMGET', job, 'status', 'origin', 'priority', 'ttl', 'attempt')
local status, queue = held[1] or '', held[2]
if not queue then return '' end
if status ~= 'failed' and status ~= 'stopped' and status ~= 'canceled' then return status end
refused = refusal({ P .. 'queue:' .. queue, 'zset', P .. 'nonempty', 'set',
  P .. 'counters', 'hash' })
if refused then return refused end
redis.pcall('ZREM', P .. 'queue:' .. queue .. ':' .. INDEX[status], id)
for _, key in ipairs({ job, job .. ':results', job .. ':payload' }) do redis.call('PERSIST', key) end
redis.call('HDEL', job, 'cause', 'ended_at')
redis.call('HSET', job, 'enqueued_at', int(now_us()), 'losses', 0)
make_ready(id, queue, next_score(held[3], ARGV[2] == '1'))
-- As in promote: the time to live is of the wait for the first attempt.
if held[4] and not held[5] then arm_ttl(id, held[4]) end
return status
