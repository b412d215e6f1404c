-- cron_due: the cron entries whose run is due, for the masters, who reckon when the next one is.
-- KEYS[1]  {ns}:queues
-- ARGV     none
-- returns  {now us, entries, when the first of all others is due ('' for none)}; an entry is {name,
--          version, due us, schedule}, at most twenty
-- Safe to send twice: it reads; a name without its entry goes.
--@ names crons
local refused = refusal({ P .. 'cron', 'zset' })
if refused then return refused end
local now, entries = now_us(), {}
local names = redis.call('ZRANGEBYSCORE', P .. 'cron', '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, 20)
for i = 1, #names, 2 do
  local held = redis.pcall('HMGET', P .. 'cron:' .. names[i], 'version', 'schedule')
  if held.err or not held[1] then
    redis.call('ZREM', P .. 'cron', names[i])
  else
    entries[#entries + 1] = { names[i], held[1], int(tonumber(names[i + 1])), held[2] or '' }
  end
end
return { int(now), entries, next_cron('(' .. int(now)) }
