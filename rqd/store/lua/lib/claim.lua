-- claim: free workers get the next jobs, queues in order of precedence.
local FIELDS = { 'status', 'func_name', 'payload', 'serializer', 'timeout', 'retries_left',
  'retries_used', 'retry_intervals', 'attempt', 'ttl' }

-- Due jobs move to their queues, at most `limit` a call.
local function promote(now, limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'scheduled', '-inf', int(now), 'LIMIT', 0, limit)) do
    local job = redis.call('HMGET', P .. 'job:' .. id, 'origin', 'priority', 'status')
    redis.call('ZREM', P .. 'scheduled', id)
    if job[3] == 'scheduled' then
      redis.call('ZREM', P .. 'queue:' .. job[1] .. ':scheduled', id)
      redis.call('HSET', P .. 'job:' .. id, 'enqueued_at', int(now))
      make_ready(id, job[1], next_score(tonumber(job[2]), false))
    end
  end
end

local function write_worker(master, worker, lease_us, ...)
  local row = P .. 'worker:' .. master .. ':' .. worker
  redis.call('HSET', row, ...)
  redis.call('PEXPIRE', row, lease_us / 1000)
  return row
end

local function claim_one(id, queue, worker, master, nonce, lease_us, now)
  local job = P .. 'job:' .. id
  local held = redis.pcall('HMGET', job, unpack(FIELDS))
  if held.err or held[1] ~= 'queued' then return nil end -- expired, or not a job any more
  local last = tonumber(redis.call('HGET', P .. 'counters', 'fence') or 0)
  -- Fences rise even if a failover loses the counter, as long as the clock goes on.
  local fence = int(math.max(last + 1, now))
  local token = fence .. ':' .. nonce
  local attempt = tonumber(held[9] or 0) + 1
  redis.call('HSET', P .. 'counters', 'fence', fence)
  redis.call('HSET', job, 'status', 'started', 'started_at', int(now), 'lease', token,
    'attempt', attempt, 'worker', master .. ':' .. worker)
  if held[10] then redis.call('PERSIST', job) end
  redis.call('ZADD', P .. 'leases', int(now + lease_us), id)
  redis.call('ZADD', P .. 'queue:' .. queue .. ':started', int(now), id)
  write_worker(master, worker, lease_us, 'state', 'busy', 'job', id, 'func_name', held[2],
    'queue', queue, 'since', int(now))
  return { id, token, attempt, queue, worker, held[2], held[3] or false, held[4], held[5],
    held[6], held[7] or '0', held[8] or '' }
end

local function claim(workers, queues, master, nonce, lease_us, now)
  local claims = {}
  if not workers[1] or not queues[1] then return claims end
  local nonempty = redis.call('SMISMEMBER', P .. 'nonempty', unpack(queues))
  for i, queue in ipairs(queues) do
    while nonempty[i] == 1 and #claims < #workers do
      local ids = redis.call('ZRANGE', P .. 'queue:' .. queue, 0, #workers - #claims - 1)
      if not ids[1] then
        redis.call('SREM', P .. 'nonempty', queue)
        break
      end
      for _, id in ipairs(ids) do
        local got = claim_one(id, queue, workers[#claims + 1], master, nonce, lease_us, now)
        redis.call('ZREM', P .. 'queue:' .. queue, id)
        if got then claims[#claims + 1] = got end
      end
    end
    if nonempty[i] == 1 and #claims == #workers then
      -- Every worker here is busy: if work is left, the next idle master shall know.
      if redis.call('EXISTS', P .. 'queue:' .. queue) == 1 then
        redis.call('ZADD', P .. 'wake:queue:' .. queue, 0, 'look')
        break
      end
      redis.call('SREM', P .. 'nonempty', queue)
    end
  end
  return claims
end
