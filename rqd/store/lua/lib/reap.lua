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
  return now >= reap_after and reap_after <= now + lease_us
end

local function reap(now, limit)
  local reaped = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', int(now), 'LIMIT', 0, limit)) do
    local job = P .. 'job:' .. id
    local held = redis.call('HMGET', job, 'status', 'origin', 'score', 'attempt', 'failure_ttl', 'worker')
    redis.call('ZREM', P .. 'leases', id)
    if held[1] == 'started' then
      local queue = held[2]
      drop_lease(id, queue)
      local losses = redis.call('HINCRBY', job, 'losses', 1)
      local lost = 'lost with ' .. (held[6] or '?')
      if losses >= MAX_LOSSES then
        local cause = 'abandoned: ' .. lost .. ', loss ' .. losses .. ' in a row'
        redis.call('HSET', job, 'cause', cause)
        record(id, 'failed', held[4], { 'cause', cause })
        end_job(id, queue, 'failed', tonumber(held[5]), now)
      else
        redis.call('HINCRBY', job, 'attempt', -1)
        make_ready(id, queue, held[3])
      end
      reaped[#reaped + 1] = { id, losses, lost }
    end
  end
  return reaped
end
