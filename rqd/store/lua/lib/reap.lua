-- reap: jobs whose lease ran out go back to their queue; a third loss in a row makes them fail.
local MAX_LOSSES = 3

-- Nobody reaps for a lease's time after the server stood still or its clock went back: the masters
-- could not renew, and they are alive.
local function may_reap(now, lease_us)
  local kept = redis.call('HMGET', P .. 'counters', 'seen', 'reap_after')
  local seen, reap_after = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
  if seen > 0 and (now < seen or now - seen > lease_us / 2) then
    reap_after = now + lease_us
    redis.call('HSET', P .. 'counters', 'reap_after', int(reap_after))
  end
  redis.call('HSET', P .. 'counters', 'seen', int(now))
  return now >= reap_after, reap_after
end

-- Leases that end further ahead than a lease lasts were given before the clock went back.
local function clamp_leases(now, lease_us)
  local latest = int(now + lease_us)
  local ids = redis.call('ZRANGEBYSCORE', P .. 'leases', '(' .. latest, '+inf', 'LIMIT', 0, 100)
  for _, id in ipairs(ids) do redis.call('ZADD', P .. 'leases', latest, id) end
end

-- A started job whose master is gone goes back, or is given up; returns {id, losses, with whom}, nil
-- if it isn't started, or not in the worker `by`. `how` says what became of its worker.
local function lose(id, now, by, how)
  local job = P .. 'job:' .. id
  local held = redis.pcall('HMGET', job, 'status', 'origin', 'score', 'attempt', 'failure_ttl', 'worker')
  if held.err or held[1] ~= 'started' or (by and held[6] ~= by) then return nil end
  local queue = held[2]
  drop_lease(id, queue)
  redis.call('HDEL', job, 'lease')
  local losses = redis.call('HINCRBY', job, 'losses', 1)
  local lost = how or 'lost with ' .. (held[6] or '?')
  if losses >= MAX_LOSSES then
    local cause = 'abandoned: ' .. lost .. ', loss ' .. losses .. ' in a row'
    record(id, 'failed', held[4], { 'cause', cause }, now)
    end_job(id, queue, 'failed', tonumber(held[5]) or -1, now, { 'cause', cause })
  else
    redis.call('HINCRBY', job, 'attempt', -1)
    make_ready(id, queue, held[3])
  end
  return { id, losses, lost }
end

local function reap(now, limit)
  local reaped = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', int(now), 'LIMIT', 0, limit)) do
    redis.call('ZREM', P .. 'leases', id)
    local lost = lose(id, now)
    if not lost then forget_gone(id, 'started') end
    reaped[#reaped + 1] = lost
  end
  return reaped
end
