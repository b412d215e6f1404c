-- claim: free workers get the next jobs, queues in order of precedence.
-- Each field that is read costs as much as half a call: those that only a job has which was started
-- before, or has retries, are read of such a one, and what a signature binds of a signed one.
local FIELDS = { 'status', 'func_name', 'payload', 'serializer', 'timeout', 'ttl', 'origin', 'signature',
  'terms', 'attempt', 'retries_left', 'enqueued_at' }
local MORE_FIELDS = { 'retries_used', 'retry_intervals', 'losses', 'tally', 'back_at' }
-- No client of ours puts a larger payload there; a master's answer would grow by it.
local INLINE_BYTES = 65536
-- Ids of expired jobs may stand in a queue by the thousand, and so may jobs of one limit: a script looks at
-- so many that it can't start, of all queues, some 50 us each.
local MOST_IN_VAIN = 200
-- So many are taken out of a queue at once, before it is known how many of them start.
local PORTION = 100
-- Masters may serve different queues: so many of those with work left get their marker again.
Claim.MARKERS = 16
-- With so few queues that have work, each is looked up in the precedence; with more, the precedence
-- is gone through from its top, a slice at a time, and most often the first slice is enough.
local FEW, SLICE = 32, 50

-- Due jobs move to their queues, at most `limit` a call.
function Claim.promote(now, limit)
  local ids = redis.call('ZRANGEBYSCORE', P .. 'scheduled', '-inf', int(now), 'LIMIT', 0, limit)
  for _, id in ipairs(ids) do
    local job = P .. 'job:' .. id
    local held = redis.pcall('HMGET', job, 'origin', 'priority', 'status', 'front', 'ttl', 'attempt',
      'failure_ttl', 'terms')
    redis.call('ZREM', P .. 'scheduled', id)
    if string.sub(id, 1, #Pause.RESUME) == Pause.RESUME then
      Pause.resume(string.sub(id, #Pause.RESUME + 1))
    elseif string.sub(id, 1, #Limits.TOKEN) == Limits.TOKEN then
      Limits.go_on_by_key(string.sub(id, #Limits.TOKEN + 1), now)
    end
    if not held.err and held[3] == 'scheduled' and held[1] then
      redis.pcall('ZREM', P .. 'queue:' .. held[1] .. ':scheduled', id)
      redis.call('HSET', job, 'enqueued_at', int(now))
      local score = Ready.next_score(held[2], held[4] == '1')
      local is_ready = Ending.enter_queue(id, held[1], score, held[6], held[7], now)
      if is_ready and held[5] and not held[6] then
        Ready.arm_ttl(id, held[5], now)
        if held[8] then Unique.expire_with_wait(held[8], id, held[5]) end
      end
    end
  end
end

-- When the next scheduled job is due; '' if none is, or at no time that a clock will show.
function Claim.next_due_time()
  return Claim.due_time_of(redis.call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES'))
end

function Claim.due_time_of(first)
  return sound(first[2]) and int(tonumber(first[2])) or ''
end

-- The same, after those that are due by now were promoted.
function Claim.promote_and_look(now)
  local first = redis.call('ZRANGE', P .. 'scheduled', 0, 0, 'WITHSCORES')
  if not first[2] or tonumber(first[2]) > now then return Claim.due_time_of(first) end
  Claim.promote(now, 100)
  return Claim.next_due_time()
end

-- The row expires with its master's heartbeats, which renew it; here only a new one gets a limit.
function Claim.write_worker(master, worker, lease_us, ...)
  local row = P .. 'worker:' .. master .. ':' .. worker
  local added = redis.pcall('HSET', row, ...)
  if type(added) == 'table' then
    redis.call('DEL', row) -- no row of ours: the claim matters more
    added = redis.call('HSET', row, ...)
  end
  if added > 0 then redis.call('PEXPIRE', row, int(math.floor(lease_us / 1000))) end
end

-- A job whose record no worker can use fails, and the queue goes on; so do those who wait for its limit,
-- if it was the one that was let on. `by.aside` has {id, queue, cause} of each.
function Claim.set_aside(id, queue, terms, cause, by, now)
  local job = P .. 'job:' .. id
  by.limits[#by.limits + 1] = Limits.of(terms)
  redis.call('PERSIST', job)
  local held = redis.call('HMGET', job, 'attempt', 'failure_ttl')
  Ending.record(id, 'failed', held[1], { 'cause', cause }, now)
  Ending.end_job(id, queue, 'failed', held[2], now, { 'cause', cause, 'origin', queue })
  by.aside = by.aside or {}
  by.aside[#by.aside + 1] = { id, queue, cause }
end

-- A number that the master can read: no hexadecimal, which Lua takes for one, nor thousands of zeros.
function Claim.is_plain(text, pattern)
  return sound(text) ~= nil and #text <= 32 and string.find(text, pattern) ~= nil
end

local WHOLE, DECIMAL = '^%d+$', '^[%d.eE+-]+$'
function Claim.is_usable(func_name, serializer, timeout, left, used, attempt, losses)
  return func_name and serializer and Claim.is_plain(timeout, DECIMAL)
    and (not left or Claim.is_plain(left, WHOLE)) and (not used or Claim.is_plain(used, WHOLE))
    and (not attempt or Claim.is_plain(attempt, WHOLE)) and (not losses or Claim.is_plain(losses, WHOLE))
end

-- A signed job's claim has what else its signature binds, as it stands in the hash; and where
-- something was counted, the tally.
function Claim.add_rest(claim, signature, tally)
  if not signature and not tally then return end
  local held = redis.call('HMGET', P .. 'job:' .. claim[1], 'result_ttl', 'failure_ttl', 'ttl', 'priority')
  claim[16] = signature or ''
  for i = 1, 3 do claim[16 + i] = held[i] or '' end
  claim[20] = held[4] or '0'
  claim[21] = tally or nil
end

-- What a script answers with claims in it: as JSON, and behind it the payloads, which may be any bytes.
-- The client library spends more on each part of an answer than the server on a job. A claim is {id,
-- token, attempt, queue, worker, func_name, the place of its payload in the answer or false, serializer,
-- timeout, retries left, used, intervals, losses in a row, terms, for how many ms it was ready, and of a
-- signed job its signature, result ttl, failure ttl, ttl, priority, and of one that has any its tally
-- (with '' for a signature that it hasn't)}.
function Claim.answer(claims, told)
  local answer = { '' }
  for _, claim in ipairs(claims) do
    if claim[7] then answer[#answer + 1], claim[7] = claim[7], #answer end
  end
  answer[1] = cjson.encode(told)
  return answer
end

-- True if the job's limit, if it has one, lets it start now.
function Claim.is_let_in(id, queue, terms, by, now)
  local limit = Limits.of(terms)
  if not limit then return true end
  if Limits.is_damaged(queue, limit) then
    Claim.set_aside(id, queue, terms, 'damaged: a key of its limit in Redis holds something else', by, now)
    return false
  end
  if not Limits.enter(id, queue, limit, now) then return false end
  -- There may be a token for the next one, too.
  if limit.every_us then by.limits[#by.limits + 1] = limit end
  return true
end

-- `back_at`: when it was put back or lost, after it had run; it may be ready anew since.
function Claim.waited_ms(enqueued_at, back_at, now)
  local since = sound(enqueued_at)
  if since then since = math.max(since, sound(back_at) or 0) end
  return since and since > 0 and since < now and math.floor((now - since) / 1000) or 0
end

-- Makes a job the worker's; nil if it can't be: expired, no job any more, unusable, or its limit's.
function Claim.start(id, queue, fence, worker, by, now)
  local job = P .. 'job:' .. id
  local held = redis.pcall('HMGET', job, unpack(FIELDS))
  if held.err or held[1] ~= 'queued' or (held[7] or queue) ~= queue then return nil end
  local func_name, payload, serializer, timeout, terms = held[2], held[3], held[4], held[5], held[9]
  local more = (held[8] or held[10] or held[11]) and redis.call('HMGET', job, unpack(MORE_FIELDS)) or {}
  local left, used, attempt, losses = held[11], more[1], held[10], more[3]
  if not held[7] or string.find(id, '[^%w_-]')
    or not Claim.is_usable(func_name, serializer, timeout, left, used, attempt, losses) then
    Claim.set_aside(id, queue, terms, 'damaged: its record in Redis lacks what a worker needs', by, now)
    return nil
  end
  if payload and #payload > INLINE_BYTES then
    local cause = 'refused: its payload lies in its hash, where ' .. #payload .. ' bytes are too many'
    Claim.set_aside(id, queue, terms, cause, by, now)
    return nil
  end
  if terms and not Claim.is_let_in(id, queue, terms, by, now) then return nil end
  local token = int(fence) .. ':' .. by.nonce
  attempt = int((tonumber(attempt) or 0) + 1)
  redis.call('HSET', job, 'status', 'started', 'started_at', int(now), 'lease', token,
    'attempt', attempt, 'worker', by.master .. ':' .. worker.number)
  local left_ms = held[6] and redis.call('PTTL', job) or -1
  if held[6] then
    redis.call('PERSIST', job)
    redis.call('PERSIST', job .. ':payload')
  end
  local had_key = terms and Unique.start(terms, id)
  if had_key or left_ms >= 0 then
    -- What its wait had, if this claim is to be as if it had not been (Settle.wait_on).
    local ends_at = left_ms >= 0 and int(now + left_ms * 1000) or ''
    redis.call('HSET', job, 'waited', token .. ' ' .. ends_at .. ' ' .. (had_key and 'key' or ''))
  end
  -- A worker without a pid takes it behind another job, which its row still shows.
  if worker.pid then
    Claim.write_worker(by.master, worker.number, by.lease_us, 'state', 'busy', 'job', id, 'func_name',
      func_name, 'queue', queue, 'since', int(now), 'pid', worker.pid)
  end
  local claim = { id, token, attempt, queue, worker.number, func_name, payload or false, serializer, timeout,
    left or '0', used or '0', more[2] or '', losses or '0', terms or '', Claim.waited_ms(held[12], more[5], now) }
  Claim.add_rest(claim, held[8], more[4])
  return claim
end

-- Fills `claims` from one queue, up to `by.upto`, or until too many could not start; returns the last fence given, and whether the queue has work left.
function Claim.from_queue(queue, claims, workers, fence, by, now)
  local ready, started = P .. 'queue:' .. queue, P .. 'queue:' .. queue .. ':started'
  if is_foreign(ready, 'zset') or is_foreign(started, 'zset') then return fence, false end
  by.in_vain = by.in_vain or 0
  while by.in_vain < MOST_IN_VAIN do
    local ids = redis.call('ZRANGE', ready, 0, math.min(by.upto - #claims, PORTION) - 1)
    if not ids[1] then return fence, false end
    -- Before any of them starts: one that can't may end, and another come back in its place. And a first
    -- write that needs no memory: where there is none, to run what waits is what makes some.
    redis.call('ZREM', ready, unpack(ids))
    local leases, starts = {}, {}
    by.limits = {}
    for _, id in ipairs(ids) do
      local got = Claim.start(id, queue, fence + 1, workers[#claims + 1], by, now)
      if got then
        fence = fence + 1
        claims[#claims + 1] = got
        leases[#leases + 1], leases[#leases + 2] = int(now + by.lease_us), id
        starts[#starts + 1], starts[#starts + 2] = int(now), id
      end
    end
    if leases[1] then
      redis.call('ZADD', P .. 'leases', unpack(leases))
      redis.call('ZADD', started, unpack(starts))
    end
    for _, limit in ipairs(by.limits) do Limits.go_on(limit, now) end
    by.in_vain = by.in_vain + #ids - #starts / 2
    if #claims == by.upto then break end
  end
  return fence, redis.call('EXISTS', ready) == 1
end

function Claim.few_with_work(precedence)
  local queues = redis.call('SMEMBERS', P .. 'nonempty')
  if not queues[1] then return {} end
  local ranks, found = redis.call('ZMSCORE', precedence, unpack(queues)), {}
  local rank_of = {}
  for i, queue in ipairs(queues) do
    if ranks[i] then
      found[#found + 1], rank_of[queue] = queue, tonumber(ranks[i])
    end
  end
  table.sort(found, function(a, b) return rank_of[a] < rank_of[b] end)
  return found
end

function Claim.slice_with_work(precedence, first)
  local queues, found = redis.call('ZRANGE', precedence, first, first + SLICE - 1), {}
  if not queues[1] then return nil end
  for i, has_work in ipairs(redis.call('SMISMEMBER', P .. 'nonempty', unpack(queues))) do
    if has_work == 1 then found[#found + 1] = queues[i] end
  end
  return found
end

-- The queues of a precedence that have work, in its order, for a `for`.
function Claim.with_work(precedence)
  local is_few = redis.call('SCARD', P .. 'nonempty') <= FEW
  local found, at, first = is_few and Claim.few_with_work(precedence) or {}, 0, 0
  return function()
    while at == #found and not is_few do
      found, at, first = Claim.slice_with_work(precedence, first), 0, first + SLICE
      if not found then return nil end
    end
    at = at + 1
    return found[at]
  end
end

-- The last fence given. They rise even if a failover loses the counter, as long as the clock goes on.
function Claim.begin(now)
  local kept = redis.call('HMGET', P .. 'counters', 'fence', 'behind')
  if kept[2] then Dependents.catch_up(now) end
  return math.max(sound(kept[1]) or 0, now - 1)
end

function Claim.for_workers(workers, precedence, by, now)
  local claims, markers = {}, 0
  if not workers[1] then return claims end
  local fence = Claim.begin(now)
  by.upto = #workers
  for queue in Claim.with_work(precedence) do
    local has_work = true
    if #claims < #workers then
      fence, has_work = Claim.from_queue(queue, claims, workers, fence, by, now)
      if not has_work then redis.call('SREM', P .. 'nonempty', queue) end
    end
    if has_work then
      -- No worker here is free any more: the next idle master shall know.
      Ready.wake('queue:' .. queue)
      markers = markers + 1
      if markers == Claim.MARKERS then break end
    end
  end
  if claims[1] then redis.call('HSET', P .. 'counters', 'fence', int(fence)) end
  return claims
end
