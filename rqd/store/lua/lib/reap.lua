-- reap: jobs whose lease ran out go back to their queue; a third loss in a row makes them fail.
local MAX_LOSSES = 3
-- One call goes through so many leases at most: some 10 ms. What it doesn't reach ends with its lease.
local MOST_LEASES = 5000
-- And takes back so many of them, as long again; the leases of the others end now, for the next beats.
local MOST_LOST = 200

-- Nobody reaps for a lease's time after the server stood still or its clock went back: the masters
-- could not renew, and they are alive. Returns whether one may, from when on, and how far the clock went back.
function Reap.may_reap(now, lease_us)
  local kept = redis.call('HMGET', P .. 'counters', 'seen', 'reap_after')
  local seen, reap_after = sound(kept[1]) or 0, sound(kept[2]) or 0
  local is_damaged = reap_after > now + lease_us
  if is_damaged or (seen > 0 and (now < seen or now - seen > lease_us / 2)) then
    reap_after = now + lease_us
    redis.call('HSET', P .. 'counters', 'reap_after', int(reap_after))
  end
  redis.call('HSET', P .. 'counters', 'seen', int(now))
  return now >= reap_after, reap_after, math.max(0, seen - now)
end

-- Leases that end further ahead than a lease lasts were given before the clock went back.
function Reap.clamp_leases(now, lease_us)
  local latest = int(now + lease_us)
  local ids = redis.call('ZRANGEBYSCORE', P .. 'leases', '(' .. latest, '+inf', 'LIMIT', 0, 100)
  for _, id in ipairs(ids) do redis.call('ZADD', P .. 'leases', latest, id) end
end

-- A heartbeat that lies ahead is from before the clock went back, and so is the time to live of its master's
-- row: one that has died since would be shown, and keep its name, until the clock has caught up.
function Reap.clamp_heartbeats(now, row_ttl_s)
  local ahead = redis.call('ZRANGEBYSCORE', P .. 'masters', '(' .. int(now), '+inf', 'LIMIT', 0, 100)
  for _, name in ipairs(ahead) do
    redis.call('ZADD', P .. 'masters', int(now), name)
    redis.call('PEXPIRE', P .. 'master:' .. name, Ready.in_ms(row_ttl_s))
  end
end

-- A started job whose master is gone goes back, or is given up, or is stopped if somebody wanted that;
-- returns {id, losses, with whom}, where `ended` is the verdict if it is over; nil if it isn't started,
-- or not in the worker `by`. `how` says what became of its worker.
function Reap.lose(id, now, by, how)
  local job = P .. 'job:' .. id
  local held = redis.pcall('HMGET', job, 'status', 'origin', 'score', 'attempt', 'failure_ttl', 'worker',
    'priority', 'lease', 'stop', 'terms')
  if held.err or held[1] ~= 'started' or not held[2] or (by and held[6] ~= by) then return nil end
  local queue = held[2]
  Ending.drop_lease(id, queue, held[10], now)
  redis.call('HDEL', job, 'lease')
  local lost = how or 'lost with ' .. (held[6] or '?')
  local stopped_by = Ending.told_to_stop(held[9], held[8])
  if stopped_by then
    local cause = 'stopped by ' .. stopped_by .. ', ' .. lost
    Ending.record(id, 'stopped', held[4], { 'cause', cause }, now)
    Ending.end_job(id, queue, 'stopped', held[5], now, { 'cause', cause })
    return { id, 0, cause, ended = 'stopped' }
  end
  local losses = Ready.count(job, 'losses', 1)
  if losses >= MAX_LOSSES then
    local cause = 'abandoned: ' .. lost .. ', loss ' .. losses .. ' in a row'
    Ending.record(id, 'failed', held[4], { 'cause', cause }, now)
    Ending.end_job(id, queue, 'failed', held[5], now, { 'cause', cause })
    return { id, losses, lost, ended = 'abandoned' }
  end
  Ready.uncharge(job)
  redis.call('HSET', job, 'back_at', int(now))
  Ledger.count(P .. 'stats:' .. queue, 'lost')
  Ending.enter_queue(id, queue, Ready.place_again(held[3], held[7]), held[4], held[5], now)
  return { id, losses, lost }
end

-- The same for all jobs of a master that is dead; those too that it held behind others, which no row
-- names. It renews none any more, so its leases are among the first. What it had not begun yet counts as
-- lost as well: nobody knows of it. With `boot`, only those whose token has this boot id.
function Reap.of_master(master, now, boot)
  local reaped, ended = {}, {}
  for _, id in ipairs(redis.call('ZRANGE', P .. 'leases', 0, MOST_LEASES - 1)) do
    local held = redis.pcall('HMGET', P .. 'job:' .. id, 'worker', 'lease')
    local by, token = held[1], held[2] or ''
    if by and string.match(by, '^(.*):%d+$') == master
      and (not boot or string.find(token, ':' .. boot .. '.', 1, true)) then
      if #reaped < MOST_LOST then
        reaped[#reaped + 1] = Reap.lose(id, now, by)
      else
        ended[#ended + 1], ended[#ended + 2] = int(now), id
      end
    end
  end
  for i = 1, #ended, 1000 do
    redis.call('ZADD', P .. 'leases', 'XX', unpack(ended, i, math.min(i + 999, #ended)))
  end
  return reaped
end

function Reap.expired(now, limit)
  local reaped = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', int(now), 'LIMIT', 0, limit)) do
    redis.call('ZREM', P .. 'leases', id)
    reaped[#reaped + 1] = Reap.lose(id, now)
  end
  return reaped
end
