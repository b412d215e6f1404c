-- limits: how many jobs of a key run at a time, and how many start in a time. Who can't start leaves
-- the ready set with its place, and waits beside it for a holder's end or for the next token; claims
-- never look at it again before.
--   limit:holders:<key>          started jobs; of a limit of concurrency
--   limit:state:<key>            the numbers as the latest job had them; `tat`: when all tokens are back
--   limit:queues:<key>           queues that have waiters
--   limit:waiting:<queue>,<key>  a queue's waiters by their place
-- As a queue that nobody serves must not keep another one's jobs waiting, what is let on is the next
-- job of each queue; the one that is claimed first starts.
local LIMIT_QUEUES = 16
-- When to look at the waiters again, for a token or for a job that was let on and may be gone by then,
-- is kept among the due jobs, under a name that no job can have.
Limits.TOKEN = ':limit:'
-- Ids of waiters that expired are passed over, so many at a time.
local WAITERS = 100

function Limits.holders_of(key) return P .. 'limit:holders:' .. key end
function Limits.state_of(key) return P .. 'limit:state:' .. key end
function Limits.queues_of(key) return P .. 'limit:queues:' .. key end
function Limits.waiting_of(queue, key) return P .. 'limit:waiting:' .. queue .. ',' .. key end

-- Both numbers or one of them; nil for no limit.
function Limits.from(key, slots, every_us, burst)
  slots, every_us, burst = sound(slots), sound(every_us), sound(burst) or 1
  slots, every_us = slots and slots >= 1 and slots, every_us and every_us >= 1 and every_us
  if slots or every_us then
    return { key = key, slots = slots, every_us = every_us, burst = math.max(1, burst) }
  end
end

function Limits.of(terms)
  local limit = Terms.part(terms, 'limit')
  if not limit or type(limit.key) ~= 'string' then return nil end
  return Limits.from(limit.key, limit.concurrency, limit.every_us, limit.burst)
end

-- When all tokens are back. Later than if all were taken now is nothing of this limit's making: the
-- clock went back, or it was damaged.
function Limits.all_back(limit, now)
  local tat = sound(redis.pcall('HGET', Limits.state_of(limit.key), 'tat')) or 0
  return math.min(math.max(tat, now), now + limit.burst * limit.every_us)
end

-- What keeps a job of this limit from its start: nil for nothing, 'slot', or the next token's time.
function Limits.obstacle(limit, now)
  local held = limit.slots and redis.pcall('ZCARD', Limits.holders_of(limit.key))
  if type(held) == 'number' and held >= limit.slots then return 'slot' end
  if not limit.every_us then return nil end
  local at = Limits.all_back(limit, now) - (limit.burst - 1) * limit.every_us
  return at > now and at or nil
end

-- What is left of a limit is known as long as it matters: the index has when it may be forgotten.
function Limits.note(key, now)
  local index, state = P .. 'limits', Limits.state_of(key)
  -- Each clears two others, so that the index never outgrows what is in use.
  local over = redis.pcall('ZRANGEBYSCORE', index, '-inf', int(now), 'LIMIT', 0, 2)
  if over[1] then redis.call('ZREM', index, unpack(over)) end
  if redis.call('EXISTS', Limits.holders_of(key), Limits.queues_of(key)) > 0 then
    redis.pcall('ZADD', index, '+inf', key)
    redis.call('PERSIST', state)
    return
  end
  local tat = sound(redis.pcall('HGET', state, 'tat')) or 0
  if tat > now then
    redis.pcall('ZADD', index, int(tat), key)
    redis.call('PEXPIRE', state, int(math.ceil((tat - now) / 1000)))
  else
    redis.call('DEL', state)
    redis.pcall('ZREM', index, key)
  end
end

function Limits.leave_waiting(id, queue, key)
  redis.pcall('ZREM', Limits.waiting_of(queue, key), id)
  redis.pcall('ZREM', P .. 'queue:' .. queue .. ':limited', id)
  redis.call('HDEL', P .. 'job:' .. id, 'limited')
  if redis.call('EXISTS', Limits.waiting_of(queue, key)) == 0 then
    redis.pcall('SREM', Limits.queues_of(key), queue)
  end
end

-- A job that is let on may expire before a claim finds it, and says nothing then: the others are
-- looked at again by that time. An earlier look does as well, for it sets the next one's.
function Limits.look_again_when_gone(key, id, now)
  local ttl_ms = redis.call('PTTL', P .. 'job:' .. id)
  if ttl_ms < 0 then return end
  local due = now + (ttl_ms + 1) * 1000
  local noted = redis.call('ZSCORE', P .. 'scheduled', Limits.TOKEN .. key)
  if not noted or tonumber(noted) > due then Ready.note_due(Limits.TOKEN .. key, due) end
end

function Limits.let_one(key, queue, now)
  if is_foreign(P .. 'queue:' .. queue, 'zset') then return end
  for _ = 1, WAITERS do
    local first = redis.pcall('ZRANGE', Limits.waiting_of(queue, key), 0, 0)
    local id = first[1]
    if not id then break end
    local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'origin', 'limited', 'score', 'priority')
    if held[1] == 'queued' and held[2] == queue and held[3] == key then
      Limits.leave_waiting(id, queue, key)
      Ready.enter(id, queue, Ready.place_again(held[4], held[5]))
      Limits.look_again_when_gone(key, id, now)
      return
    end
    -- It is gone; or its id is another job's by now, which may wait elsewhere.
    redis.call('ZREM', Limits.waiting_of(queue, key), id)
    if held[2] ~= queue or not held[3] then redis.pcall('ZREM', P .. 'queue:' .. queue .. ':limited', id) end
  end
  if redis.call('EXISTS', Limits.waiting_of(queue, key)) == 0 then
    redis.pcall('SREM', Limits.queues_of(key), queue)
  elseif not is_foreign(Limits.waiting_of(queue, key), 'zset') then
    Ready.note_due(Limits.TOKEN .. key, now)
  end
end

-- Each queue's next waiter is ready.
function Limits.let_next(key, now)
  for _, queue in ipairs(redis.pcall('SRANDMEMBER', Limits.queues_of(key), LIMIT_QUEUES)) do
    Limits.let_one(key, queue, now)
  end
end

-- Those who wait are looked at when the next token is there. A time that is none of this limit's making
-- is not kept: cut anew at each look, it would be as far ahead at the next one.
function Limits.await_token(limit, token_at, now)
  redis.call('HSET', Limits.state_of(limit.key), 'tat', int(Limits.all_back(limit, now)))
  Ready.note_due(Limits.TOKEN .. limit.key, token_at)
end

-- Those who wait are let on, now or when there is a token.
function Limits.go_on(limit, now)
  if redis.call('EXISTS', Limits.queues_of(limit.key)) == 0 then return end
  local why = Limits.obstacle(limit, now)
  if not why then
    Limits.let_next(limit.key, now)
  elseif why ~= 'slot' then
    Limits.await_token(limit, why, now)
  end
end

-- The same for a key alone, with the numbers that the latest job had.
function Limits.go_on_by_key(key, now)
  local state = redis.pcall('HMGET', Limits.state_of(key), 'concurrency', 'every_us', 'burst')
  local limit = not state.err and Limits.from(key, unpack(state))
  if limit then Limits.go_on(limit, now) else Limits.let_next(key, now) end
end

-- True if the job may start: it has its slot and its token then. Else it waits, at its place.
function Limits.enter(id, queue, limit, now)
  local job, state = P .. 'job:' .. id, Limits.state_of(limit.key)
  redis.call('HSET', state, 'concurrency', limit.slots and int(limit.slots) or '',
    'every_us', limit.every_us and int(limit.every_us) or '', 'burst', int(limit.burst))
  local why = Limits.obstacle(limit, now)
  if why then
    local held = redis.call('HMGET', job, 'score', 'priority')
    local score = Ready.place_again(held[1], held[2])
    redis.call('HSET', job, 'limited', limit.key, 'score', score)
    redis.call('ZADD', Limits.waiting_of(queue, limit.key), score, id)
    redis.call('ZADD', P .. 'queue:' .. queue .. ':limited', score, id)
    redis.call('SADD', Limits.queues_of(limit.key), queue)
    if why ~= 'slot' then Limits.await_token(limit, why, now) end
  else
    if limit.slots then redis.call('ZADD', Limits.holders_of(limit.key), int(now), id) end
    if limit.every_us then
      redis.call('HSET', state, 'tat', int(Limits.all_back(limit, now) + limit.every_us))
    end
  end
  Limits.note(limit.key, now)
  return not why
end

-- A key of the limit that holds something else.
function Limits.is_damaged(queue, limit)
  local key = limit.key
  return refusal({ Limits.holders_of(key), 'zset', Limits.state_of(key), 'hash', Limits.queues_of(key), 'set',
    Limits.waiting_of(queue, key), 'zset', P .. 'queue:' .. queue .. ':limited', 'zset' }) ~= nil
end

-- A job's attempt is over. One that was none gives its token back.
function Limits.leave(id, terms, now, is_uncharged)
  local limit = Limits.of(terms)
  if not limit then return end
  if limit.every_us and is_uncharged then
    redis.pcall('HSET', Limits.state_of(limit.key), 'tat', int(Limits.all_back(limit, now) - limit.every_us))
  end
  if limit.slots then redis.pcall('ZREM', Limits.holders_of(limit.key), id) end
  Limits.go_on(limit, now)
  Limits.note(limit.key, now)
end

-- A job leaves its queue without a claim: it may wait, or be the one that was let on.
function Limits.leave_unclaimed(id, queue)
  local held = redis.call('HMGET', P .. 'job:' .. id, 'limited', 'terms')
  if held[1] then Limits.leave_waiting(id, queue, held[1]) end
  local limit = Limits.of(held[2])
  if limit then
    local now = now_us()
    Limits.go_on(limit, now)
    Limits.note(limit.key, now)
  end
end

-- A job leaves where it waits, by its status.
function Limits.stop_waiting(id, queue, status)
  if status == 'queued' then
    Ready.leave(id, queue)
    Limits.leave_unclaimed(id, queue)
  elseif status == 'scheduled' then
    Ready.unschedule(id, queue)
  elseif status == 'deferred' then
    Ready.undefer(id, queue)
  end
end
