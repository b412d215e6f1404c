-- cancel: a job that waits will not run.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, the queue it must be of ('' for any), '1' to let those that wait for it run
-- returns  the status found: queued, scheduled, deferred (canceled now), canceled (already), any
--          other status (refused), or '' (no such job, or not of this queue)
-- Safe to send twice: the second finds it canceled.
--@ names ready terms unique limits ledger ending callbacks dependents groups
local id = ARGV[1]
local refused = refusal({ P .. 'job:' .. id, 'hash' })
if refused then return refused end
local held = redis.call('HMGET', P .. 'job:' .. id, 'status', 'origin', 'failure_ttl')
local status, queue = held[1] or '', held[2]
if ARGV[2] ~= '' and ARGV[2] ~= queue then return '' end
if not queue then return '' end
Dependents.counts_as_finished = ARGV[3] == '1'
if status == 'canceled' and Dependents.counts_as_finished then
  Dependents.concern(id, status, now_us())
end
if status ~= 'queued' and status ~= 'scheduled' and status ~= 'deferred' then return status end
refused = refusal({ P .. 'queue:' .. queue, 'zset', P .. 'nonempty', 'set', P .. 'scheduled', 'zset' })
if refused then return refused end
Ending.cancel_job(id, queue, status, held[3], now_us())
return status
