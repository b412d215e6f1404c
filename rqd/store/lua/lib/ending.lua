-- ending: the ways a job leaves its lease, and its terminal records.
local INDEX = { finished = 'finished', failed = 'failed', stopped = 'failed', canceled = 'canceled' }
-- How long an enqueue that is sent again after its reply was lost is known for a replay, although
-- its job has come to its end and is gone: no client tries for longer.
local REPLAY_S = 60

-- A record that callbacks are to read stays so long at least.
local CALLBACK_S = 3600

-- What else happens when a job has ended: functions of its id, queue, status ('gone' or 'delete' if
-- it is deleted), the time, whether others wait for it, and its terms. Its state is written by then.
local on_end = {}

-- Indexes and counters are written with pcall: one that holds something else must not keep a job
-- from its end.
local function drop_lease(id, queue, terms, now, is_uncharged)
  redis.call('ZREM', P .. 'leases', id)
  redis.pcall('ZREM', P .. 'queue:' .. queue .. ':started', id)
  if terms then leave_limit(id, terms, now, is_uncharged) end
end

-- The request that made a job outlives it, or the enqueue's replay would run it a second time.
local function remember_request(id, request, created_at, now)
  created_at = request and sound(created_at) and created_at
  if created_at and now - tonumber(created_at) < REPLAY_S * 1000000 then
    redis.call('SET', P .. 'job:' .. id .. ':request', created_at .. ' ' .. request, 'EX', REPLAY_S)
  end
end

-- `how`: 'gone', or 'delete' if what waits for it goes too.
local function bury(id, now, how)
  local job = P .. 'job:' .. id
  local held = redis.call('HMGET', job, 'request', 'created_at', 'terms', 'dependents', 'origin')
  remember_request(id, held[1], held[2], now)
  if held[3] then release_unique(held[3], id, true) end
  redis.call('DEL', job, job .. ':payload', job .. ':result', job .. ':results')
  for _, hook in ipairs(on_end) do hook(id, held[5], how or 'gone', now, held[4], held[3]) end
end

-- At most `limit` ids whose records have expired leave an index; returns how many.
local function forget_expired(index, now, limit)
  local ids = redis.pcall('ZRANGEBYSCORE', index, '-inf', int(now), 'LIMIT', 0, limit)
  if ids[1] then redis.call('ZREM', index, unpack(ids)) end
  return #ids
end

-- Without a time to live nothing stays but what others may be waiting for.
local function drop_record(id, held, now)
  local job = P .. 'job:' .. id
  remember_request(id, held[2], held[3], now)
  redis.call('DEL', job, job .. ':payload')
  -- Whoever blocks for the result still gets it.
  redis.call('EXPIRE', job .. ':results', REPLAY_S)
  redis.call('EXPIRE', job .. ':result', REPLAY_S)
end

local function keep_record(id, queue, status, held, ttl_s, now)
  local job = P .. 'job:' .. id
  local index = P .. 'queue:' .. queue .. ':' .. INDEX[status]
  if ttl_s < 0 then
    redis.pcall('ZADD', index, '+inf', id)
    return
  end
  redis.pcall('ZADD', index, int(now + ttl_s * 1000000), id)
  local ttl_ms = in_ms(ttl_s)
  redis.call('PEXPIRE', job, ttl_ms)
  redis.call('PEXPIRE', job .. ':results', ttl_ms)
  if held[1] then
    redis.call('PEXPIRE', job .. ':payload', ttl_ms)
    redis.call('PEXPIRE', job .. ':result', ttl_ms)
  end
  if ttl_s < REPLAY_S then remember_request(id, held[2], held[3], now) end
  -- Each ending clears two old ones, so that an index never outgrows its time to live.
  forget_expired(index, now, 2)
end

-- `ttl_s` as it stands in the job's hash; `more`: further fields and values of the hash.
local function end_job(id, queue, status, ttl_s, now, more)
  local job = P .. 'job:' .. id
  ttl_s = sound(ttl_s) or -1
  if ttl_s ~= 0 then
    redis.call('HSET', job, 'status', status, 'ended_at', int(now), unpack(more or {}))
  end
  local held = redis.call('HMGET', job, 'beside', 'request', 'created_at', 'terms', 'dependents')
  if held[4] and ttl_s >= 0 and ttl_s < CALLBACK_S and callbacks_of(held[4], status)[1] then
    return end_job(id, queue, status, CALLBACK_S, now, more)
  end
  redis.pcall('HINCRBY', P .. 'stats:' .. queue, status, 1)
  if held[4] then release_unique(held[4], id, status == 'canceled') end
  if ttl_s == 0 then
    drop_record(id, held, now)
  else
    keep_record(id, queue, status, held, ttl_s, now)
  end
  for _, hook in ipairs(on_end) do hook(id, queue, status, now, held[5], held[4]) end
end

-- A waiting job, by its status.
local function cancel_job(id, queue, status, ttl_s, now, more)
  stop_waiting(id, queue, status)
  redis.call('PERSIST', P .. 'job:' .. id)
  redis.call('PERSIST', P .. 'job:' .. id .. ':payload')
  end_job(id, queue, 'canceled', ttl_s, now, more)
end

-- An attempt's entry in the job's history; the ten latest stay (RQ's number).
local function record(id, kind, attempt, fields, now)
  local key = P .. 'job:' .. id .. ':results'
  local function add()
    return redis.pcall('XADD', key, 'MAXLEN', 10, '*',
      'type', kind, 'attempt', sound(attempt) or 0, 'ended_us', int(now), unpack(fields))
  end
  local added = add()
  if type(added) == 'table' and added.err then
    redis.call('DEL', key) -- no stream of ours: the outcome matters more
    add()
  end
end

-- By whom this attempt of a job was told to stop; nil if it was not. `stop` as in the job's hash: the
-- attempt's token, the request, by whom.
local function told_to_stop(stop, token)
  local told, by = string.match(stop or '', '^(%S+) %S+ (.*)$')
  if told and told == token then return by end
end

-- make_ready, for a job that is in no place now: if its queue's key holds something else, it fails.
local function enter_queue(id, queue, score, attempt, ttl_s, now)
  if make_ready(id, queue, score) then return true end
  local cause = 'damaged: the key of its queue in Redis holds something else'
  record(id, 'failed', attempt, { 'cause', cause }, now)
  end_job(id, queue, 'failed', ttl_s, now, { 'cause', cause })
  return false
end
