-- cron_tick: the due runs of a cron entry are enqueued, and its next one is due; whichever master comes
-- first.
-- KEYS[1]  {ns}:queues
-- ARGV     name, version and due time in us that the master has seen; when its next run is due ('' for
--          never); what is wrong with its schedule ('' for nothing); number of runs, and for each: its
--          job's id, its time in us
-- returns  {'ticked' or 'stale', now us, number of jobs made, when the first of all entries is due
--          ('' for none)}; stale: another master did it, or the entry was changed meanwhile
-- Safe to send twice: the second finds another due time. A run's id is its entry's name and its time,
-- and no id is used twice.
--@ names arguments ready terms unique crons cron_runs
local name, version, due, next_due, wrong = take(), take(), take(), take(), take()
local runs = {}
for i = 1, take_count() do runs[i] = { take(), take() } end
local key = P .. 'cron:' .. name
local refused = refusal({ key, 'hash', P .. 'cron', 'zset', P .. 'masters', 'zset' }) or garbled()
if refused then return refused end
local held = redis.call('HMGET', key, 'version', 'queue', 'job.terms', 'job.ttl', 'job.priority')
local score = redis.call('ZSCORE', P .. 'cron', name)
if held[1] ~= version or not score or int(sound(score) or 0) ~= due or not held[2] then
  return { 'stale', int(now_us()), 0, Crons.next_due(0) }
end
refused = refusal(CronRuns.keys(held[2]))
if refused then return refused end
local now, made = now_us(), 0
local like = runs[1] and CronRuns.template_of(key)
for _, run in ipairs(runs) do
  if CronRuns.make(run[1], held[2], like, held[3], held[4], held[5], now) then
    made = made + 1
    redis.call('HSET', key, 'last_job', run[1])
    Ready.count(key, 'runs', 1)
  end
  redis.call('HSET', key, 'last', run[2])
end
if wrong ~= '' then redis.call('HSET', key, 'error', wrong) end
redis.call('ZADD', P .. 'cron', next_due == '' and '+inf' or next_due, name)
return { 'ticked', int(now), made, Crons.next_due(0) }
