-- cron_save: a cron entry stands under its name; one that is the same already goes on as it was.
-- KEYS[1]  {ns}:queues
-- ARGV     name, version (of all that follows but the due time), when its next run is due in us;
--          source ('' for none), number of fields and values, those: first its schedule, then queue,
--          func_name, description, and those of each run's job with `job.` before their names
-- returns  1, or 0 if it was there in this version
-- Safe to send twice: the second finds it there.
--@ names arguments crons
local name, version, due = take(), take(), take_number(0)
local source, fields = take(), take_fields()
local key = P .. 'cron:' .. name
local refused = refusal({ key, 'hash', P .. 'cron', 'zset', P .. 'masters', 'zset' }) or garbled()
if refused then return refused end
local held = redis.call('HMGET', key, 'version', 'paused', 'last', 'last_job', 'runs', 'error', 'schedule')
local score = not held[6] and redis.call('ZSCORE', P .. 'cron', name)
if held[1] == version and score then
  redis.call('HSET', key, 'source', source)
  return 0
end
-- Under the same schedule what is due stays due: it may have been missed, and be made up for.
if score and held[7] == fields[2] and sound(score) then due = tonumber(score) end
redis.call('DEL', key)
redis.call('HSET', key, 'version', version, 'source', source, unpack(fields))
for at, kept in pairs({ [2] = 'paused', [3] = 'last', [4] = 'last_job', [5] = 'runs' }) do
  if held[at] then redis.call('HSET', key, kept, held[at]) end
end
Crons.set_due(name, held[2] and '+inf' or int(due))
return 1
