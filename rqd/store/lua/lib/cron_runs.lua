-- cron_runs: the jobs that the runs of a cron entry are.
-- The fields of each run's job.
function CronRuns.template_of(key)
  local held, fields = redis.call('HGETALL', key), {}
  for i = 1, #held, 2 do
    local field = string.match(held[i], '^job%.(.+)$')
    if field then fields[#fields + 1], fields[#fields + 2] = field, held[i + 1] end
  end
  return fields
end

function CronRuns.keys(queue)
  return { KEYS[1], 'set', P .. 'queue:' .. queue, 'zset', P .. 'nonempty', 'set', P .. 'counters', 'hash' }
end

-- The job of one run becomes ready; false if it was made before, or a live job has its unique key.
function CronRuns.make(id, queue, like, terms, ttl, priority, now)
  local job = P .. 'job:' .. id
  if redis.call('EXISTS', job, job .. ':request') > 0 then return false end
  local unique = Unique.of(terms)
  if unique then
    if is_foreign(unique.key, 'string') or Unique.holder_of(unique) then return false end
    Unique.hold(unique, id, ttl)
  end
  local stamp = int(now)
  -- The request is what keeps a run's id taken, where its job is gone within a minute.
  redis.call('HSET', job, 'origin', queue, 'request', 'cron', 'created_at', stamp, 'enqueued_at', stamp,
    unpack(like))
  redis.call('SADD', KEYS[1], queue)
  Ready.enter(id, queue, Ready.next_score(priority, false))
  if ttl then Ready.arm_ttl(id, ttl, now) end
  return true
end
