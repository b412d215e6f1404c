-- ready: the ways into a queue. A ready set holds only what can be claimed now; its score is the
-- priority (higher first) and a counter, exact in 53 bits.
local function score_of(priority, place)
  return int(-priority * 1099511627776 + place)
end

local function next_score(priority, at_front)
  if at_front then
    return score_of(priority, redis.call('HINCRBY', P .. 'counters', 'front', -1))
  end
  return score_of(priority, redis.call('HINCRBY', P .. 'counters', 'back', 1))
end

-- A waiting job that nobody claims in time is gone, and all that belongs to it.
local function arm_ttl(id, ttl_s)
  local ttl_ms = math.max(1, math.ceil(ttl_s * 1000))
  redis.call('PEXPIRE', P .. 'job:' .. id, ttl_ms)
  redis.call('PEXPIRE', P .. 'job:' .. id .. ':payload', ttl_ms)
end

-- The queue has work: one idle master shall look.
local function announce(queue)
  redis.call('SADD', P .. 'nonempty', queue)
  redis.call('ZADD', P .. 'wake:queue:' .. queue, 0, 'look')
end

local function make_ready(id, queue, score)
  redis.call('HSET', P .. 'job:' .. id, 'status', 'queued', 'score', score)
  redis.call('ZADD', P .. 'queue:' .. queue, score, id)
  announce(queue)
end

local function leave_ready(id, queue)
  redis.call('ZREM', P .. 'queue:' .. queue, id)
  if redis.call('EXISTS', P .. 'queue:' .. queue) == 0 then
    redis.call('SREM', P .. 'nonempty', queue)
  end
end

local function schedule(id, queue, due)
  local first = redis.call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')
  redis.call('HSET', P .. 'job:' .. id, 'status', 'scheduled', 'due', int(due))
  redis.call('ZADD', P .. 'scheduled', int(due), id)
  redis.call('ZADD', P .. 'queue:' .. queue .. ':scheduled', int(due), id)
  if not first[2] or due < tonumber(first[2]) then
    -- An earlier due time than any master has been told of: they look again.
    for _, master in ipairs(redis.call('ZRANGE', P .. 'masters', 0, 99)) do
      redis.pcall('ZADD', P .. 'wake:master:' .. master, 0, 'look')
    end
  end
end

local function unschedule(id, queue)
  redis.call('ZREM', P .. 'scheduled', id)
  redis.call('ZREM', P .. 'queue:' .. queue .. ':scheduled', id)
end
