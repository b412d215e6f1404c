-- empty: a queue's waiting jobs are deleted, at most 100 a call.
-- KEYS[1]  {ns}:queues
-- ARGV     queue
-- returns  {jobs deleted, ids taken out}: fewer jobs where some had expired; call again until no
--          id was taken out
-- Safe to send twice: it deletes.
--@ names ready terms unique limits ledger ending callbacks dependents groups
local MOST = 100
local queue = ARGV[1]
local ready, limited = P .. 'queue:' .. queue, P .. 'queue:' .. queue .. ':limited'
local refused = refusal({ ready, 'zset', P .. 'nonempty', 'set', limited, 'zset' })
if refused then return refused end
-- Who waits for a limit goes before who was let on, so that nobody is left who waits for that one, if
-- there is no next call.
local ids, from = redis.call('ZRANGE', limited, 0, MOST - 1), limited
if not ids[1] then
  ids, from = redis.call('ZRANGE', ready, 0, MOST - 1), ready
end
-- Before any of them ends: another may come back in its place.
if ids[1] then redis.call('ZREM', from, unpack(ids)) end
if redis.call('EXISTS', ready) == 0 then redis.call('SREM', P .. 'nonempty', queue) end
local deleted, limits, now = 0, {}, now_us()
for _, id in ipairs(ids) do
  local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'origin', 'limited', 'terms')
  if not held.err and held[1] == 'queued' and held[2] == queue then
    Ending.bury(id, now)
    deleted = deleted + 1
    if held[3] then Limits.leave_waiting(id, queue, held[3]) end
    local limit = Limits.of(held[4])
    if limit then limits[limit.key] = true end
  end
end
for key in pairs(limits) do
  if from == ready then Limits.go_on_by_key(key, now) end
  Limits.note(key, now)
end
return { deleted, #ids }
