-- ready: the ways into a queue. A ready set holds only what can be claimed now; its score is the
-- priority (higher first) and a counter, exact in 53 bits.
-- How long an enqueue that is sent again after its reply was lost is known for a replay, although
-- its job has come to its end and is gone: no client tries for longer.
Ready.REPLAY_S = 60

function Ready.score_of(priority, place)
  -- Not by `int`, which remembers: no two are the same.
  return string.format('%d', -priority * 1099511627776 + place)
end

-- HINCRBY; a number that was damaged begins anew.
function Ready.count(key, field, by)
  local sum = redis.pcall('HINCRBY', key, field, by)
  if type(sum) == 'number' and sound(sum) then return sum end
  redis.call('HSET', key, field, by)
  return by
end

function Ready.next_score(priority, at_front)
  local place = Ready.count(P .. 'counters', at_front and 'front' or 'back', at_front and -1 or 1)
  return Ready.score_of(sound(priority) or 0, place)
end

-- The place a job had before its claim; at the front, if that is damaged.
function Ready.place_again(score, priority)
  return sound(score) and score or Ready.next_score(priority, true)
end

-- An attempt that was none.
function Ready.uncharge(job)
  if Ready.count(job, 'attempt', -1) < 0 then redis.call('HSET', job, 'attempt', 0) end
end

-- Seconds as PEXPIRE takes them; the client allows 10^10 at most.
function Ready.in_ms(seconds)
  return seconds and int(math.max(1, math.ceil(math.min(seconds, 10000000000) * 1000)))
end

-- The request that made a job outlives it, or the enqueue's replay would run it a second time.
function Ready.remember_request(id, request, created_at, now)
  created_at = request and sound(created_at) and created_at
  if created_at and now - tonumber(created_at) < Ready.REPLAY_S * 1000000 then
    local kept = created_at .. ' ' .. request
    redis.call('SET', P .. 'job:' .. id .. ':request', kept, 'EX', Ready.REPLAY_S)
  end
end

-- The same, of a job whose hash is there still.
function Ready.remember_request_of(id, now)
  local held = redis.call('HMGET', P .. 'job:' .. id, 'request', 'created_at')
  Ready.remember_request(id, held[1], held[2], now)
end

-- A waiting job that nobody claims in time is gone, and all that belongs to it.
function Ready.arm_ttl(id, ttl_s, now)
  ttl_s = sound(ttl_s)
  local ttl_ms = Ready.in_ms(ttl_s)
  if not ttl_ms then return end
  redis.call('PEXPIRE', P .. 'job:' .. id, ttl_ms)
  redis.call('PEXPIRE', P .. 'job:' .. id .. ':payload', ttl_ms)
  if ttl_s < Ready.REPLAY_S then Ready.remember_request_of(id, now) end
end

-- Masters look once a second by themselves: a marker's key that holds something else ends nothing.
function Ready.wake(whose)
  redis.pcall('ZADD', P .. 'wake:' .. whose, 0, 'look')
end

-- What is paused when the whole namespace is suspended: no queue's name has braces.
Ready.ALL = '{all}'

-- The queue has work: one idle master shall look. A paused queue's jobs wait outside of `nonempty`, so
-- that nobody is woken for them and no turn looks at them; all queues' do while the namespace is
-- suspended. `is_free` if it is known that nothing is paused.
function Ready.announce(queue, is_free)
  local paused = not is_free and redis.pcall('ZMSCORE', P .. 'paused', queue, Ready.ALL)
  if paused and paused[1] then return end
  if paused and paused[2] then
    redis.pcall('SADD', P .. 'suspended', queue)
    return
  end
  redis.call('SADD', P .. 'nonempty', queue)
  Ready.wake('queue:' .. queue)
end

-- False if the queue's key holds something else: the job is nowhere then.
function Ready.enter(id, queue, score)
  redis.call('HSET', P .. 'job:' .. id, 'status', 'queued', 'score', score)
  if type(redis.pcall('ZADD', P .. 'queue:' .. queue, score, id)) == 'table' then return false end
  Ready.announce(queue)
  return true
end

function Ready.leave(id, queue)
  redis.call('ZREM', P .. 'queue:' .. queue, id)
  if redis.call('EXISTS', P .. 'queue:' .. queue) == 0 then
    redis.call('SREM', P .. 'nonempty', queue)
  end
end

-- Something is to be done at this time: a job's id, or another member of `scheduled`.
function Ready.note_due(member, due)
  local first = redis.call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')
  redis.call('ZADD', P .. 'scheduled', int(due), member)
  if not first[2] or due < tonumber(first[2]) then
    -- An earlier due time than any master has been told of: they look again.
    for _, master in ipairs(redis.pcall('ZRANGE', P .. 'masters', 0, 99)) do
      Ready.wake('master:' .. master)
    end
  end
end

function Ready.schedule(id, queue, due)
  redis.call('HSET', P .. 'job:' .. id, 'status', 'scheduled', 'due', int(due))
  redis.pcall('ZADD', P .. 'queue:' .. queue .. ':scheduled', int(due), id)
  Ready.note_due(id, due)
end

function Ready.unschedule(id, queue)
  redis.call('ZREM', P .. 'scheduled', id)
  redis.pcall('ZREM', P .. 'queue:' .. queue .. ':scheduled', id)
end

-- The key of a parent's hash: a parent is a job's id, or `group:<name>` for all jobs of a group.
function Ready.parent_key(parent)
  return P .. (string.find(parent, ':', 1, true) and '' or 'job:') .. parent
end

-- Whether others wait for a job of this id, which need not be there: its time to live may be over.
function Ready.is_awaited(id)
  local job = P .. 'job:' .. id
  return redis.call('EXISTS', job .. ':dependents', job .. ':dependents:any') > 0
end

-- A deferred job waits for none of its parents any more; returns how many those were.
function Ready.undefer(id, queue)
  local job = P .. 'job:' .. id
  local parents = redis.pcall('SMEMBERS', job .. ':awaited')
  for _, parent in ipairs(parents) do
    redis.pcall('ZREM', Ready.parent_key(parent) .. ':dependents', id)
    redis.pcall('ZREM', Ready.parent_key(parent) .. ':dependents:any', id)
  end
  redis.call('DEL', job .. ':awaited')
  redis.pcall('ZREM', P .. 'queue:' .. queue .. ':deferred', id)
  return #parents
end
