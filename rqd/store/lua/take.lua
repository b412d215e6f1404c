-- take: one queued job, by its id, is claimed, wherever it stands in its queue.
-- KEYS[1]  {ns}:queues
-- ARGV     request id, master, lease in us, job id, pid of the process that will run it
-- returns  Claim.answer of the claim; or '' if the job is not queued (any more)
-- Safe to send twice: nobody has read the first answer, so a replay claims the job anew, and the
-- attempt that was none is not charged.
--@ names ready pause terms unique limits ledger ending callbacks dependents groups claim
local request, master, lease_us, id, pid = ARGV[1], ARGV[2], sound(ARGV[3]), ARGV[4], ARGV[5]
local job = P .. 'job:' .. id
if not lease_us or not pid then
  return redis.error_reply("ERR these are none of this script's arguments")
end
local refused = refusal({ job, 'hash', P .. 'nonempty', 'set', P .. 'counters', 'hash',
  P .. 'leases', 'zset', P .. 'scheduled', 'zset' })
if refused then return refused end
local held = redis.call('HMGET', job, 'status', 'origin', 'lease', 'terms')
local queue = held[2]
if not queue then return '' end
local ready, started = P .. 'queue:' .. queue, P .. 'queue:' .. queue .. ':started'
refused = refusal({ ready, 'zset', started, 'zset' })
if refused then return refused end
local now = now_us()
if held[1] == 'started' and held[3] and string.match(held[3], ':(.*)$') == request then
  Ending.drop_lease(id, queue, held[4], now, true)
  redis.call('HDEL', job, 'lease')
  redis.call('HSET', job, 'status', 'queued')
  Ready.uncharge(job)
elseif held[1] ~= 'queued' or not redis.call('ZSCORE', ready, id) then
  return ''
end
local fence = math.max((sound(redis.call('HGET', P .. 'counters', 'fence')) or 0) + 1, now)
local by = { master = master, nonce = request, lease_us = lease_us, limits = {} }
local claim = Claim.start(id, queue, fence, { number = '1', pid = pid }, by, now)
Ready.leave(id, queue)
for _, limit in ipairs(by.limits) do Limits.go_on(limit, now) end
if not claim then return '' end
redis.call('HSET', P .. 'counters', 'fence', int(fence))
redis.call('ZADD', P .. 'leases', int(now + lease_us), id)
redis.call('ZADD', started, int(now), id)
return Claim.answer({ claim }, claim)
