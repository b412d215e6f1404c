-- cron_due: the cron entries whose run is due, for the masters, who reckon when the next one is.
-- KEYS[1]  {ns}:queues
-- ARGV     how many of the first are passed over
-- returns  {now us, entries, when the first behind them is due ('' for none)}; an entry is {name,
--          version, due us, schedule}, at most twenty
-- Safe to send twice: it reads; a name without its entry, or with a damaged one, goes.
--@ names arguments crons
local passed_over = take_number(0)
local refused = refusal({ P .. 'cron', 'zset' }) or garbled()
if refused then return refused end
local now, entries = now_us(), {}
local names = redis.call('ZRANGEBYSCORE', P .. 'cron', '-inf', int(now), 'WITHSCORES', 'LIMIT',
  int(passed_over), 20)
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
return { int(now), entries, Crons.next_due(passed_over + #entries) }
