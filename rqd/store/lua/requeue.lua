-- requeue: a job that ended without success runs again.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, '1' for at front
-- returns  the status found: failed, stopped, canceled (requeued now), any other (refused), '' (none)
-- Safe to send twice: the second finds it queued or further, and changes nothing.
--@ names ready ending
local id = ARGV[1]
local job = P .. 'job:' .. id
local held = redis.call('HMGET', job, 'status', 'origin', 'priority')
local status = held[1] or ''
if status ~= 'failed' and status ~= 'stopped' and status ~= 'canceled' then return status end
redis.call('ZREM', P .. 'queue:' .. held[2] .. ':' .. INDEX[status], id)
for _, key in ipairs({ job, job .. ':results', job .. ':payload' }) do redis.call('PERSIST', key) end
redis.call('HDEL', job, 'cause', 'ended_at')
redis.call('HSET', job, 'enqueued_at', int(now_us()), 'losses', 0)
make_ready(id, held[2], next_score(tonumber(held[3]), ARGV[2] == '1'))
return status
