-- requeue: a job that ended without success runs again.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, '1' for at front, the only statuses to requeue it in ('' for all)
-- returns  the status found: failed, stopped, canceled (requeued now), any other (refused), '' (none);
--          'unique <id>' if another job has its unique key by now (refused)
-- Safe to send twice: the second finds it queued or further, and changes nothing.
--@ names ready terms unique limits ledger ending callbacks dependents groups requeue
local id = ARGV[1]
local job = P .. 'job:' .. id
local refused = refusal({ job, 'hash' })
if refused then return refused end
local held = redis.call('HMGET', job, unpack(Requeue.AGAIN_FIELDS))
local status, queue = held[1] or '', held[2]
if not queue then return '' end
if not Requeue.ENDED_BADLY[status] then return status end
if (ARGV[3] or '') ~= '' and not string.find(' ' .. ARGV[3] .. ' ', ' ' .. status .. ' ', 1, true) then
  return status
end
refused = refusal({ P .. 'queue:' .. queue, 'zset', P .. 'nonempty', 'set',
  P .. 'counters', 'hash' })
if refused then return refused end
return Requeue.run_again(id, held, ARGV[2] == '1', now_us())
