-- mend: what a beat looks through bit by bit, for what no other script sees.
-- What a mistake took out of the sets that all queues share is put in again, as a queue's own keys
-- have it, some entries a call; and an entry without its job goes.
function Mend.queue(queue, now, lease_us)
  local own = P .. 'queue:' .. queue
  if redis.call('TYPE', own).ok == 'zset' and redis.call('SISMEMBER', P .. 'nonempty', queue) == 0 then
    Ready.announce(queue)
  end
  for shared, index in pairs({ leases = 'started', scheduled = 'scheduled' }) do
    local found = redis.pcall('ZRANDMEMBER', own .. ':' .. index, 10, 'WITHSCORES')
    for i = 1, #found, 2 do
      local id, score = found[i], sound(found[i + 1])
      if not redis.call('ZSCORE', P .. shared, id) then
        local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'origin')
        if held.err or held[1] ~= index or held[2] ~= queue or not score then
          redis.call('ZREM', own .. ':' .. index, id)
        elseif shared == 'leases' then
          redis.call('ZADD', P .. shared, int(now + lease_us), id)
        else
          Ready.schedule(id, queue, score)
        end
      end
    end
  end
end

-- Where the two orders of an index have not the same jobs, some of each are looked at: jobs that ended under
-- an rqd that knew no second order are put in, others go.
function Mend.ended(queue, index, now)
  local by_record, by_end = Ending.keys_of(queue, index)
  if is_foreign(by_end, 'zset') then redis.call('DEL', by_end) end
  if redis.pcall('ZCARD', by_record) == redis.call('ZCARD', by_end) then return end
  for _, id in ipairs(redis.pcall('ZRANDMEMBER', by_record, 100)) do
    if not redis.call('ZSCORE', by_end, id) then
      local ended_at = sound(redis.pcall('HGET', P .. 'job:' .. id, 'ended_at'))
      redis.call('ZADD', by_end, int(ended_at or 0), id)
    end
  end
  for _, id in ipairs(redis.call('ZRANDMEMBER', by_end, 100)) do
    if not redis.pcall('ZSCORE', by_record, id) then redis.call('ZREM', by_end, id) end
  end
end

-- Pauses for a time whose end nobody would see any more.
function Mend.pauses()
  local found = redis.pcall('ZRANDMEMBER', P .. 'paused', 10, 'WITHSCORES')
  for i = 1, #found, 2 do
    local ends, due = Pause.RESUME .. found[i], sound(found[i + 1])
    if due and not redis.call('ZSCORE', P .. 'scheduled', ends) then Ready.note_due(ends, due) end
  end
end

-- To read whom a job waits for takes a while if they are many: so many are read in one script.
local parents_left = 2000

-- Some deferred jobs of a queue are looked at: a parent's time to live may be over, which no script
-- sees; and what a mistake took out of Redis is put in again.
function Mend.deferred(queue, now)
  local index = P .. 'queue:' .. queue .. ':deferred'
  for _, id in ipairs(redis.pcall('ZRANDMEMBER', index, 10)) do
    if parents_left <= 0 then return end
    local job = P .. 'job:' .. id
    local held = redis.pcall('HMGET', job, 'status', 'origin', 'terms', 'attempt', 'failure_ttl')
    if held.err or held[1] ~= 'deferred' or held[2] ~= queue then
      Ready.undefer(id, queue)
    else
      local parents = redis.pcall('SRANDMEMBER', job .. ':awaited', 10)
      local dependency = Dependents.dependency_of(held[3]) or { ids = {} }
      parents_left = parents_left - #dependency.ids
      for _, parent in ipairs(parents) do
        local status = Dependents.status_of(parent) or 'gone'
        if Dependents.judge(status, dependency.on_failure) ~= 'wait' then
          Dependents.hear_of(id, parent, status, now)
          break -- it may not wait any more; if it does, a later look finds the others
        end
        Dependents.wait_for(id, parent, dependency.on_failure, now)
      end
      if not parents[1] then
        local cause = 'damaged: what it waits for is gone from Redis'
        Ready.undefer(id, queue)
        Ending.record(id, 'failed', held[4], { 'cause', cause }, now)
        Ending.end_job(id, queue, 'failed', held[5], now, { 'cause', cause })
      end
    end
  end
end

-- Some open jobs of some groups are looked at: one whose time to wait was over is gone, which no
-- script sees.
function Mend.groups(now)
  local number = redis.pcall('ZCOUNT', P .. 'groups', '+inf', '+inf')
  if type(number) ~= 'number' or number == 0 then return end
  local from = now % number
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'groups', '+inf', '+inf', 'LIMIT', from, 10)) do
    for _, id in ipairs(redis.pcall('SRANDMEMBER', P .. 'group:' .. name .. ':open', 10)) do
      local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'terms')
      local is_its = not held.err and held[1] and Groups.of(held[2]) == name
      if not is_its then Groups.end_job(name, id, 'gone', now) end
      if is_its and Ending.INDEX[held[1]] then Groups.end_job(name, id, held[1], now) end
    end
  end
end

-- What a mistake left behind: holders that don't run any more, waiters that nobody lets on.
function Mend.limits(now)
  for _, key in ipairs(redis.pcall('ZRANDMEMBER', P .. 'limits', 10)) do
    for _, id in ipairs(redis.pcall('ZRANDMEMBER', Limits.holders_of(key), 10)) do
      local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'terms')
      local limit = not held.err and held[1] == 'started' and Limits.of(held[2])
      if not limit or limit.key ~= key then redis.call('ZREM', Limits.holders_of(key), id) end
    end
    Limits.go_on_by_key(key, now)
    Limits.note(key, now)
  end
end

-- A waiter that only its queue's index knows any more is ready again.
function Mend.limited(queue)
  local limited = P .. 'queue:' .. queue .. ':limited'
  for _, id in ipairs(redis.pcall('ZRANDMEMBER', limited, 10)) do
    local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'origin', 'limited', 'score', 'priority')
    if held.err or held[1] ~= 'queued' or held[2] ~= queue or not held[3] then
      redis.call('ZREM', limited, id)
    elseif not redis.pcall('ZSCORE', Limits.waiting_of(queue, held[3]), id)
      and not is_foreign(P .. 'queue:' .. queue, 'zset') then
      Limits.leave_waiting(id, queue, held[3])
      Ready.enter(id, queue, Ready.place_again(held[4], held[5]))
    end
  end
end
