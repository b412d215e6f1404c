-- empty: a queue's ready jobs are deleted, at most 100 a call.
-- KEYS[1]  {ns}:queues
-- ARGV     queue
-- returns  {jobs deleted, ids taken out}: fewer jobs where some had expired; call again until no
--          id was taken out
-- Safe to send twice: it deletes.
--@ names ready terms unique ending callbacks dependents groups
local queue = ARGV[1]
local refused = refusal({ P .. 'queue:' .. queue, 'zset', P .. 'nonempty', 'set' })
if refused then return refused end
local ids = redis.call('ZRANGE', P .. 'queue:' .. queue, 0, 99)
local deleted, now = 0, now_us()
for _, id in ipairs(ids) do
  local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'origin')
  if not held.err and held[1] == 'queued' and held[2] == queue then
    bury(id, now)
    deleted = deleted + 1
  end
end
if ids[1] then redis.call('ZREM', P .. 'queue:' .. queue, unpack(ids)) end
if not ids[1] then redis.call('SREM', P .. 'nonempty', queue) end
return { deleted, #ids }
