-- ending: the ways a job leaves its lease, and its terminal records.
local INDEX = { finished = 'finished', failed = 'failed', stopped = 'failed', canceled = 'canceled' }
-- A deleted job's hash stays this long without a status: an enqueue that is sent again after its
-- reply was lost finds its own request id here and does not run the job twice.
local TOMBSTONE_S = 60

local function drop_lease(id, queue)
  redis.call('ZREM', P .. 'leases', id)
  redis.call('ZREM', P .. 'queue:' .. queue .. ':started', id)
  redis.call('HDEL', P .. 'job:' .. id, 'lease')
end

local function bury(id)
  local job = P .. 'job:' .. id
  local request = redis.call('HGET', job, 'request')
  redis.call('DEL', job, job .. ':payload', job .. ':result')
  redis.call('HSET', job, 'request', request or '')
  redis.call('EXPIRE', job, TOMBSTONE_S)
  -- Whoever blocks for the result still gets it.
  redis.call('EXPIRE', job .. ':results', TOMBSTONE_S)
end

-- At most `limit` ids whose records have expired leave an index.
local function forget_expired(index, now, limit)
  local ids = redis.call('ZRANGEBYSCORE', index, '-inf', int(now), 'LIMIT', 0, limit)
  if ids[1] then redis.call('ZREM', index, unpack(ids)) end
  return #ids
end

local function end_job(id, queue, status, ttl_s, now)
  local job = P .. 'job:' .. id
  local index = P .. 'queue:' .. queue .. ':' .. INDEX[status]
  redis.call('HSET', job, 'status', status, 'ended_at', int(now))
  redis.call('HINCRBY', P .. 'stats:' .. queue, status, 1)
  if ttl_s == 0 then
    bury(id)
    return
  end
  if ttl_s < 0 then
    redis.call('ZADD', index, '+inf', id)
    return
  end
  redis.call('ZADD', index, int(now + ttl_s * 1000000), id)
  local ttl_ms = math.max(1, math.ceil(ttl_s * 1000))
  for _, key in ipairs({ job, job .. ':results', job .. ':payload', job .. ':result' }) do
    redis.call('PEXPIRE', key, ttl_ms)
  end
  -- Each ending clears two old ones, so that an index never outgrows its time to live.
  forget_expired(index, now, 2)
end

-- An attempt's entry in the job's history; the ten latest stay (RQ's number).
local function record(id, kind, attempt, fields)
  redis.call('XADD', P .. 'job:' .. id .. ':results', 'MAXLEN', 10, '*',
    'type', kind, 'attempt', attempt, unpack(fields))
end
