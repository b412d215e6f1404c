-- requeue: a job that ended without success runs again.
Requeue.ENDED_BADLY = { failed = true, stopped = true, canceled = true }
-- What `Requeue.run_again` wants to know of a job, in this order.
Requeue.AGAIN_FIELDS = { 'status', 'origin', 'priority', 'ttl', 'attempt', 'terms' }

-- `held`: its AGAIN_FIELDS, its status one of ENDED_BADLY. Returns the status it had, 'unique <id>' if
-- another job has its unique key by now, or an error.
function Requeue.run_again(id, held, at_front, now)
  local job, status, queue = P .. 'job:' .. id, held[1], held[2]
  local unique = held[6] and Unique.of(held[6])
  local holder = unique and Unique.holder_of(unique)
  if holder and holder.id ~= id then return 'unique ' .. holder.id end
  if unique and is_foreign(unique.key, 'string') then return refusal({ unique.key, 'string' }) end
  Ending.unlist(id, queue, status)
  for _, part in ipairs({ '', ':results', ':payload', ':result' }) do redis.call('PERSIST', job .. part) end
  redis.call('HDEL', job, 'cause', 'frame', 'host', 'started_at', 'ended_at')
  redis.call('HSET', job, 'enqueued_at', int(now), 'losses', 0)
  Ready.enter(id, queue, Ready.next_score(held[3], at_front))
  -- As in promote: the time to live is of the wait for the first attempt.
  local ttl_s = not held[5] and held[4]
  if ttl_s then Ready.arm_ttl(id, ttl_s, now) end
  if unique then Unique.hold(unique, id, ttl_s) end
  Groups.rejoin(held[6], id)
  return status
end
