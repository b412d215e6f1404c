-- cron_run: one run of a cron entry now, at an operator's wish; when it is due stays as it is.
-- KEYS[1]  {ns}:queues
-- ARGV     name, the job's id
-- returns  1; 0 if there is no such entry, or its unique key has another job
-- Safe to send twice: the second finds the job.
--@ names arguments ready terms unique crons cron_runs
local name, id = take(), take()
local key = P .. 'cron:' .. name
local refused = refusal({ key, 'hash' }) or garbled()
if refused then return refused end
local held = redis.call('HMGET', key, 'queue', 'job.terms', 'job.ttl', 'job.priority')
if not held[1] then return 0 end
if redis.call('EXISTS', P .. 'job:' .. id) == 1 then return 1 end
refused = refusal(CronRuns.keys(held[1]))
if refused then return refused end
return CronRuns.make(id, held[1], CronRuns.template_of(key), held[2], held[3], held[4], now_us()) and 1 or 0
