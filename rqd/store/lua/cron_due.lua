-- cron_due: the cron entries whose run is due, for the masters, who reckon when the next one is.
-- KEYS[1]  {ns}:queues
-- ARGV     none
-- returns  {now us, entries, when the first of all others is due ('' for none)}; an entry is {name,
--          version, due us, schedule}, at most twenty
-- Safe to send twice: it reads; a name without its entry, or with a damaged one, goes.
--@ names crons
local refused = refusal({ P .. 'cron', 'zset' })
if refused then return refused end
local now, entries = now_us(), {}
local names = redis.call('ZRANGEBYSCORE', P .. 'cron', '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, 20)
for i = 1, #names, 2 do
  local name, due = names[i], sound(names[i + 1])
  local held = redis.pcall('HMGET', P .. 'cron:' .. name, 'version', 'queue', 'schedule')
  if held.err or not held[1] or not held[2] then
    redis.call('ZREM', P .. 'cron', name)
  else
    -- What is no time of ours has been due for ever.
    if not due then redis.call('ZADD', P .. 'cron', 0, name) end
    entries[#entries + 1] = { name, held[1], int(due or 0), held[3] or '' }
  end
end
return { int(now), entries, Crons.next_due('(' .. int(now)) }
