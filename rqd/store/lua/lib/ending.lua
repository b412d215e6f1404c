-- ending: the ways a job leaves its lease, and its terminal records.
Ending.INDEX = { finished = 'finished', failed = 'failed', stopped = 'failed', canceled = 'canceled' }
-- Each index is there twice: by the end of the records, for what expires; by the end of the jobs, for lists.
Ending.INDEXES = { 'finished', 'failed', 'canceled' }
local BY_RECORD, BY_END = P .. 'queue:', P .. 'by-end:'

function Ending.keys_of(queue, index)
  return BY_RECORD .. queue .. ':' .. index, BY_END .. index .. ':' .. queue
end

-- An ended job leaves the indexes of its status.
function Ending.unlist(id, queue, status)
  local by_record, by_end = Ending.keys_of(queue, Ending.INDEX[status])
  redis.pcall('ZREM', by_record, id)
  redis.pcall('ZREM', by_end, id)
end

-- A record that callbacks are to read stays so long at least.
local CALLBACK_S = 3600

-- What else the end of a job means, once its state is written; `status` may be 'gone' or 'delete', if
-- it is deleted.
function Ending.concern_others(id, status, now, has_dependents, terms)
  if terms then Callbacks.call_back(id, status, now, terms) end
  if has_dependents then Dependents.concern(id, status, now) end
  local group = terms and Groups.of(terms)
  if group then Groups.end_job(group, id, status, now) end
end

-- Indexes and counters are written with pcall: one that holds something else must not keep a job
-- from its end.
function Ending.drop_lease(id, queue, terms, now, is_uncharged)
  Ledger.remove(P .. 'leases', id)
  Ledger.remove(P .. 'queue:' .. queue .. ':started', id)
  if terms then Limits.leave(id, terms, now, is_uncharged) end
end

-- `how`: 'gone', or 'delete' if what waits for it goes too.
function Ending.bury(id, now, how)
  local job = P .. 'job:' .. id
  local held = redis.call('HMGET', job, 'request', 'created_at', 'terms', 'dependents', 'origin')
  Ready.remember_request(id, held[1], held[2], now)
  if held[3] then Unique.release(held[3], id, true) end
  redis.call('DEL', job, job .. ':payload', job .. ':result', job .. ':results')
  Ending.concern_others(id, how or 'gone', now, held[4], held[3])
end

-- At most `limit` ids whose records have expired leave an index; returns how many.
function Ending.forget_expired(index, now, limit)
  local ids = redis.pcall('ZRANGEBYSCORE', index, '-inf', int(now), 'LIMIT', 0, limit)
  if ids[1] then redis.call('ZREM', index, unpack(ids)) end
  return #ids
end

-- The same of a queue's index, in both orders.
function Ending.forget_of_queue(queue, index, now, limit)
  local by_record, by_end = Ending.keys_of(queue, index)
  local ids = redis.pcall('ZRANGEBYSCORE', by_record, '-inf', int(now), 'LIMIT', 0, limit)
  if not ids[1] then return 0 end
  redis.call('ZREM', by_record, unpack(ids))
  redis.pcall('ZREM', by_end, unpack(ids))
  return #ids
end

local ends_of = {}

-- Without a time to live nothing stays but what others may be waiting for.
function Ending.drop_record(id, now)
  local job = P .. 'job:' .. id
  Ready.remember_request_of(id, now)
  redis.call('DEL', job, job .. ':payload')
  -- Whoever blocks for the result still gets it.
  redis.call('EXPIRE', job .. ':results', Ready.REPLAY_S)
  redis.call('EXPIRE', job .. ':result', Ready.REPLAY_S)
end

function Ending.keep_record(id, queue, status, is_beside, ttl_s, now)
  local job = P .. 'job:' .. id
  local index = Ending.INDEX[status]
  local by_record, by_end = Ending.keys_of(queue, index)
  Ledger.add(by_end, int(now), id)
  if ttl_s < 0 then
    Ledger.add(by_record, '+inf', id)
    return
  end
  -- Each ending clears two old ones, so that an index never outgrows its time to live.
  if Ledger.add(by_record, int(now + ttl_s * 1000000), id) then
    Ending.forget_of_queue(queue, index, now, 2)
  else
    ends_of[by_record] = { queue, index } -- until the ledger is closed
  end
  local ttl_ms = Ready.in_ms(ttl_s)
  redis.call('PEXPIRE', job, ttl_ms)
  redis.call('PEXPIRE', job .. ':results', ttl_ms)
  if is_beside then
    redis.call('PEXPIRE', job .. ':payload', ttl_ms)
    redis.call('PEXPIRE', job .. ':result', ttl_ms)
  end
  if ttl_s < Ready.REPLAY_S then Ready.remember_request_of(id, now) end
end

-- What endings have written since Ledger.open().
function Ending.close_ledger(now)
  for key, number in pairs(Ledger.close()) do
    local of = ends_of[key]
    if of then Ending.forget_of_queue(of[1], of[2], now, math.min(2 * number, 1000)) end -- as many as Lua hands on
  end
  ends_of = {}
end

-- `ttl_s` as it stands in the job's hash; `more`: further fields and values of the hash; `held`: its
-- `beside`, `terms` and `dependents`, if they are known.
function Ending.end_job(id, queue, status, ttl_s, now, more, held)
  local job = P .. 'job:' .. id
  if not held then
    local found = redis.call('HMGET', job, 'beside', 'terms', 'dependents')
    held = { beside = found[1], terms = found[2], dependents = found[3] }
  end
  local terms = held.terms
  ttl_s = sound(ttl_s) or -1
  if terms and ttl_s >= 0 and ttl_s < CALLBACK_S and Terms.callbacks(terms, status)[1] then
    ttl_s = CALLBACK_S
  end
  if ttl_s ~= 0 then
    redis.call('HSET', job, 'status', status, 'ended_at', int(now), unpack(more or {}))
  end
  Ledger.count(P .. 'stats:' .. queue, status)
  if terms then Unique.release(terms, id, status == 'canceled') end
  if ttl_s == 0 then
    Ending.drop_record(id, now)
  else
    Ending.keep_record(id, queue, status, held.beside, ttl_s, now)
  end
  Ending.concern_others(id, status, now, held.dependents, terms)
end

-- A waiting job, by its status.
function Ending.cancel_job(id, queue, status, ttl_s, now, more)
  Limits.stop_waiting(id, queue, status)
  redis.call('PERSIST', P .. 'job:' .. id)
  redis.call('PERSIST', P .. 'job:' .. id .. ':payload')
  Ending.end_job(id, queue, 'canceled', ttl_s, now, more)
end

-- An attempt's entry in the job's history; the ten latest stay (RQ's number).
function Ending.record(id, kind, attempt, fields, now)
  local key = P .. 'job:' .. id .. ':results'
  local function add()
    return redis.pcall('XADD', key, 'MAXLEN', '10', '*',
      'type', kind, 'attempt', int(sound(attempt) or 0), 'ended_us', int(now), unpack(fields))
  end
  local added = add()
  if type(added) ~= 'table' or not added.err then return end
  -- At a script's first write: nothing is done yet.
  if string.find(added.err, 'OOM', 1, true) then error(added.err) end
  redis.call('DEL', key) -- no stream of ours: the outcome matters more
  add()
end

-- By whom this attempt of a job was told to stop, and with which grace in s; nil if it was not. `stop` as
-- in the job's hash: the attempt's token, the request, the grace, by whom.
function Ending.told_to_stop(stop, token)
  local told, grace_s, by = string.match(stop or '', '^(%S+) %S+ (%S+) (.*)$')
  if told and told == token then return by, grace_s end
end

-- Ready.enter, for a job that is in no place now: if its queue's key holds something else, it fails.
function Ending.enter_queue(id, queue, score, attempt, ttl_s, now)
  if Ready.enter(id, queue, score) then return true end
  local cause = 'damaged: the key of its queue in Redis holds something else'
  Ending.record(id, 'failed', attempt, { 'cause', cause }, now)
  Ending.end_job(id, queue, 'failed', ttl_s, now, { 'cause', cause })
  return false
end
