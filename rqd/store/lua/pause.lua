-- pause: a queue's jobs wait; with {all}, those of every queue: the namespace is suspended.
-- KEYS[1]  {ns}:queues
-- ARGV     queue or {all}, for how many seconds ('' until it is resumed)
-- returns  until when, in us ('' until it is resumed)
-- Safe to send twice: it sets; the time counts from the latest.
--@ names ready pause
local queue, for_s = ARGV[1], ARGV[2]
local refused = refusal({ P .. 'paused', 'zset', P .. 'nonempty', 'set', P .. 'suspended', 'set',
  P .. 'scheduled', 'zset', P .. 'masters', 'zset' })
if refused then return refused end
if for_s ~= '' and not sound(for_s) then
  return redis.error_reply("ERR these are none of this script's arguments")
end
local ends_at = for_s ~= '' and int(now_us() + tonumber(for_s) * 1000000) or ''
redis.call('ZADD', P .. 'paused', ends_at ~= '' and ends_at or '+inf', queue)
if queue == Ready.ALL then
  -- In two commands, however many queues there are.
  redis.call('SUNIONSTORE', P .. 'suspended', P .. 'suspended', P .. 'nonempty')
  redis.call('DEL', P .. 'nonempty')
  for _, master in ipairs(redis.call('ZRANGE', P .. 'masters', 0, 99)) do
    redis.pcall('ZADD', P .. 'wake:master:' .. master, 0, 'command')
  end
else
  redis.call('SREM', P .. 'nonempty', queue)
  redis.call('SREM', P .. 'suspended', queue)
  redis.call('DEL', P .. 'wake:queue:' .. queue)
end
if ends_at ~= '' then
  Ready.note_due(Pause.RESUME .. queue, tonumber(ends_at))
else
  redis.call('ZREM', P .. 'scheduled', Pause.RESUME .. queue)
end
return ends_at
