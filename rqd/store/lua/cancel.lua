-- cancel: a job that waits will not run.
-- KEYS[1]  {ns}:queues
-- ARGV     job id
-- returns  the status found: queued, scheduled, deferred (canceled now), canceled (already), any
--          other status (refused), or '' (no such job)
-- Safe to send twice: the second finds it canceled.
--@ names ready ending
local id = ARGV[1]
local job = P .. 'job:' .. id
local held = redis.call('HMGET', job, 'status', 'origin', 'failure_ttl')
local status = held[1] or ''
if status ~= 'queued' and status ~= 'scheduled' and status ~= 'deferred' then return status end
if status == 'queued' then
  leave_ready(id, held[2])
elseif status == 'scheduled' then
  unschedule(id, held[2])
end
end_job(id, held[2], 'canceled', tonumber(held[3]), now_us())
return status
