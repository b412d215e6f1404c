-- dependents: jobs that wait for others, their parents. `job:<id>:awaited` has the parents whose end a
-- deferred job still waits for; `job:<parent>:dependents` the jobs that wait for its success, and
-- `job:<parent>:dependents:any` those that its failure concerns too: it lets them run, or cancels them.
Dependents.LIVE = { queued = true, started = true, scheduled = true, deferred = true, open = true }
-- Endings after which nobody can wait for the job any more.
local FOR_GOOD = { finished = true, gone = true, delete = true }
local WHAT_BEFELL = { failed = 'failed', stopped = 'was stopped', canceled = 'was canceled',
  gone = 'is gone: it was deleted, or its time to live was over' }
-- So many are told of endings in one script; the rest wait in `endings` for the next claim or beat.
local untold = 100
local is_telling = false
-- `Dependents.counts_as_finished` is set by a cancel that lets the dependents run.

-- The parents' ids and what their failure means for the job: 'run', 'cancel', or nil for waiting
-- on; nil if it depends on none.
function Dependents.dependency_of(terms)
  local told, ids = Terms.part(terms, 'depends_on'), {}
  if not told or type(told.ids) ~= 'table' then return nil end
  for _, id in ipairs(told.ids) do
    if type(id) == 'string' and (string.find(id, '^[%w_-]+$') or string.find(id, '^group:[%w_-]+$')) then
      ids[#ids + 1] = id
    end
  end
  return ids[1] and { ids = ids, on_failure = told.on_failure }
end

-- Where a parent stands; nil if it is gone. A group is open or finished.
function Dependents.status_of(parent)
  local key = Ready.parent_key(parent)
  if not string.find(parent, ':', 1, true) then
    local status = redis.pcall('HGET', key, 'status')
    return type(status) == 'string' and status or nil
  end
  if redis.call('EXISTS', key .. ':open') == 1 then return 'open' end
  return redis.call('EXISTS', key) == 1 and 'finished' or nil
end

-- What a parent in this state means for a job that depends on it: 'met', 'wait' or 'cancel'. A failed
-- parent may be requeued, and one that was only saved enqueued; one that is gone will never finish.
function Dependents.judge(status, on_failure)
  if status == 'finished' then return 'met' end
  if Dependents.LIVE[status] or status == 'created' then return 'wait' end
  if on_failure == 'run' then return 'met' end
  return Ending.INDEX[status] and on_failure ~= 'cancel' and 'wait' or 'cancel'
end

function Dependents.key_of(parent, on_failure)
  local concerns_failure = on_failure == 'run' or on_failure == 'cancel'
  return Ready.parent_key(parent) .. ':dependents' .. (concerns_failure and ':any' or '')
end

-- The parent's hash says that somebody waits, so that the end of any other job need not ask. With pcall:
-- what holds something else must not keep a beat from its other work.
function Dependents.wait_for(id, parent, on_failure, place)
  redis.pcall('HSET', Ready.parent_key(parent), 'dependents', 1)
  redis.pcall('ZADD', Dependents.key_of(parent, on_failure), 'NX', int(place), id)
end

function Dependents.defer(id, queue, parents, on_failure, place, now)
  redis.call('DEL', P .. 'job:' .. id .. ':awaited')
  for _, parent in ipairs(parents) do
    redis.call('SADD', P .. 'job:' .. id .. ':awaited', parent)
    Dependents.wait_for(id, parent, on_failure, place)
  end
  redis.call('ZADD', P .. 'queue:' .. queue .. ':deferred', int(now), id)
end

-- All its parents have ended: it is ready, or waits for its time.
function Dependents.release(id, queue, now)
  local job = P .. 'job:' .. id
  Ready.undefer(id, queue)
  local held = redis.call('HMGET', job, 'priority', 'front', 'ttl', 'attempt', 'failure_ttl', 'due',
    'terms')
  local due = sound(held[6])
  if due and due > now then
    Ready.schedule(id, queue, due)
    return
  end
  redis.call('HSET', job, 'enqueued_at', int(now))
  local score = Ready.next_score(held[1], held[2] == '1')
  local is_ready = Ending.enter_queue(id, queue, score, held[4], held[5], now)
  if is_ready and held[3] then
    Ready.arm_ttl(id, held[3], now)
    Unique.expire_with_wait(held[7], id, held[3])
  end
end

function Dependents.cancel(id, queue, parent, status, failure_ttl, now)
  untold = untold - math.floor(Ready.undefer(id, queue) / 10)
  local cause = 'canceled: its parent ' .. parent .. ' ' .. (WHAT_BEFELL[status] or 'did not finish')
  Ending.end_job(id, queue, 'canceled', failure_ttl, now, { 'cause', cause })
end

-- One parent of a deferred job has come to an end, or stands as it does.
function Dependents.hear_of(id, parent, status, now)
  local awaited = P .. 'job:' .. id .. ':awaited'
  local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'origin', 'terms', 'failure_ttl')
  if held.err or held[1] ~= 'deferred' or not held[2] then return end
  if redis.pcall('SISMEMBER', awaited, parent) ~= 1 then return end
  if status == 'delete' then
    untold = untold - math.floor(Ready.undefer(id, held[2]) / 10)
    Ending.bury(id, now, 'delete')
    return
  end
  local dependency = Dependents.dependency_of(held[3]) or { ids = {} }
  untold = untold - math.floor(#dependency.ids / 50) -- to read them takes a while, too
  local verdict = Dependents.judge(status, dependency.on_failure)
  if verdict == 'cancel' then
    Dependents.cancel(id, held[2], parent, status, held[4], now)
  elseif verdict == 'met' then
    redis.pcall('ZREM', Dependents.key_of(parent, dependency.on_failure), id)
    redis.call('SREM', awaited, parent)
    if redis.call('EXISTS', awaited) == 0 then Dependents.release(id, held[2], now) end
  end
end

-- Tells the dependents in `endings` of their parents' ends, some of them if they are many. That they
-- end in turn only makes the list longer.
function Dependents.tell(now)
  if is_telling or is_foreign(P .. 'counters', 'hash') or is_foreign(P .. 'nonempty', 'set')
    or is_foreign(P .. 'scheduled', 'zset') then return end
  is_telling = true
  while untold > 0 do
    local entry = redis.pcall('LINDEX', P .. 'endings', 0)
    if type(entry) ~= 'string' then break end
    local name, parent, status = string.match(entry, '^((%S+):%d+) (%l+)$')
    local room = P .. 'ended:' .. (name or '')
    local ids = redis.pcall('ZRANGE', room, 0, math.ceil(untold) - 1)
    if not ids[1] then
      redis.call('DEL', room)
      redis.call('LPOP', P .. 'endings')
    else
      local told = 0
      while told < #ids and untold > 0 do
        told, untold = told + 1, untold - 1
        Dependents.hear_of(ids[told], parent, status, now)
      end
      redis.call('ZREM', room, unpack(ids, 1, told))
    end
  end
  is_telling = false
  if untold <= 0 then redis.call('HSET', P .. 'counters', 'behind', 1) end
end

-- Goes on where a script before had too many to tell; true if none are left.
function Dependents.catch_up(now)
  Dependents.tell(now)
  if redis.call('EXISTS', P .. 'endings') == 1 then return false end
  redis.call('HDEL', P .. 'counters', 'behind')
  return true
end

-- Those that wait for a job are moved out of the way of whoever comes to wait for its next run, or
-- for another job of its id.
function Dependents.move_aside(id, dependents, status, now)
  for at = now, now + 99 do
    local name = id .. ':' .. int(at)
    local moved = redis.pcall('RENAMENX', Ready.parent_key(id) .. dependents, P .. 'ended:' .. name)
    if type(moved) == 'table' then return end -- nobody waits
    if moved == 1 then
      if is_foreign(P .. 'endings', 'list') then redis.call('DEL', P .. 'endings') end
      redis.call('RPUSH', P .. 'endings', name .. ' ' .. status)
      return
    end
  end
end

function Dependents.concern(id, status, now)
  if Dependents.counts_as_finished then
    status, Dependents.counts_as_finished = 'finished', false
  end
  Dependents.move_aside(id, ':dependents:any', status, now)
  -- Without a record of its failure nobody can requeue it.
  if not FOR_GOOD[status] and redis.call('EXISTS', Ready.parent_key(id)) == 0 then status = 'gone' end
  if FOR_GOOD[status] then Dependents.move_aside(id, ':dependents', status, now) end
  Dependents.tell(now)
end
