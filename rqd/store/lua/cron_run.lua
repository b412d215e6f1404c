-- cron_run: one run of a cron entry now, at an operator's wish; when it is due stays as it is.
-- KEYS[1]  {ns}:queues
-- ARGV     name, the job's id
-- returns  the names and values of the job's hash; 0 if there is no such entry, or its unique key has
--          another job
-- Safe to send twice: the second finds the job, or that it was there; its hash is told as the entry
-- has it then.
--@ names arguments ready terms unique crons cron_runs
local name, id = take(), take()
local key, job = P .. 'cron:' .. name, P .. 'job:' .. id
local refused = refusal({ key, 'hash' }) or garbled()
if refused then return refused end
local held = redis.call('HMGET', key, 'queue', 'job.terms', 'job.ttl', 'job.priority')
if redis.call('EXISTS', job, job .. ':request') == 0 then
  if not held[1] then return 0 end
  refused = refusal(CronRuns.keys(held[1]))
  if refused then return refused end
  if not CronRuns.make(id, held[1], CronRuns.template_of(key), held[2], held[3], held[4], now_us()) then return 0 end
end
local told = redis.pcall('HGETALL', job)
if told.err or not told[1] then
  told = CronRuns.template_of(key)
  for _, value in ipairs({ 'origin', held[1] or '', 'status', 'queued' }) do told[#told + 1] = value end
end
return told
