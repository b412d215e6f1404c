-- empty: a queue's ready jobs are deleted, at most 100 a call.
-- KEYS[1]  {ns}:queues
-- ARGV     queue
-- returns  how many were deleted; call again until 0
-- Safe to send twice: it deletes.
--@ names ready ending
local queue = ARGV[1]
local ids = redis.call('ZRANGE', P .. 'queue:' .. queue, 0, 99)
for _, id in ipairs(ids) do
  redis.call('ZREM', P .. 'queue:' .. queue, id)
  bury(id)
  redis.call('DEL', P .. 'job:' .. id .. ':results')
end
if not ids[1] then redis.call('SREM', P .. 'nonempty', queue) end
return #ids
