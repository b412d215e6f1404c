-- settle: one attempt's outcome becomes the job's next state, if its token still holds the job.
-- Verdicts: 'settled'; 'abandoned' (settled: a loss too many); 'stopped' (it would have run again, but
-- was told to stop); 'already' (this token's settle came before: a reply was lost); 'stale' (another
-- claim holds the job, or nobody does); 'gone' (the job was deleted).
local RESULT = { finish = 'successful', ['repeat'] = 'successful', fail = 'failed', retry = 'retried',
  stop = 'stopped' }
-- What every outcome asks for; each field that is read costs as much as half a call.
local HELD = { 'lease', 'origin', 'attempt', 'result_ttl', 'cause', 'beside', 'terms', 'dependents' }
-- After these the job would run again.
local AGAIN = { ['repeat'] = true, retry = true, put_back = true, park = true }

Settle.DECISIONS = { finish = true, ['repeat'] = true, fail = true, retry = true, put_back = true,
  park = true, lose = true, stop = true }

-- An attempt's outcome as `turn` is told of it, in texts and the place where they end; nil if it is none.
function Settle.read(id, token, worker, decision, delay_us, staged, ...)
  local fields = { ... }
  fields[#fields] = nil
  delay_us = sound(delay_us)
  -- Only there if it is another than the claim's, and first: to look for it takes nothing.
  local moved_to = fields[1] == 'worker' and table.remove(fields, 2)
  if moved_to then table.remove(fields, 1) end
  if type(staged) ~= 'string' or #fields % 2 == 1 or not delay_us or delay_us < 0 then return nil end
  return Settle.DECISIONS[decision] and { id = id, token = token, worker = worker, decision = decision,
    delay_us = delay_us, staged = staged, fields = fields, moved_to = moved_to }
end

function Settle.field_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

function Settle.cause_of(fields)
  return Settle.field_of(fields, 'cause')
end

-- The fields of an attempt that ended by itself while it was told to stop.
function Settle.stopped_fields(by, fields)
  local told, why = {}, Settle.cause_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] ~= 'cause' then told[#told + 1], told[#told + 2] = fields[i], fields[i + 1] end
  end
  told[#told + 1], told[#told + 2] = 'cause', 'stopped by ' .. by .. (why and ', ' .. why or '')
  return told
end

-- One more of what few jobs have counted; a tally that was damaged begins anew.
function Settle.add_to_tally(job, what)
  local is_whole, tally = pcall(cjson.decode, redis.call('HGET', job, 'tally') or '{}')
  if not is_whole or type(tally) ~= 'table' then tally = {} end
  for name, count in pairs(tally) do
    if type(name) ~= 'string' or not sound(count) then tally[name] = nil end -- JSON has no infinity
  end
  tally[what] = (sound(tally[what]) or 0) + 1
  redis.call('HSET', job, 'tally', cjson.encode(tally))
end

-- What another run of a job costs it, by why it runs again.
function Settle.charge_run(job, decision, reason)
  if decision == 'repeat' then
    Settle.add_to_tally(job, 'repeats')
    -- The next run has all its retries; left and used together stay what was signed.
    local used = redis.call('HGET', job, 'retries_used')
    if sound(used) then
      Ready.count(job, 'retries_left', int(tonumber(used)))
      redis.call('HSET', job, 'retries_used', 0)
    end
    return
  end
  if reason then Settle.add_to_tally(job, reason) end
  if reason == 'asked' then return end -- what a job asks for itself costs none of its retries
  if Ready.count(job, 'retries_left', -1) < 0 then redis.call('HSET', job, 'retries_left', 0) end
  Ready.count(job, 'retries_used', 1)
end

-- Whose a job is by now, when it isn't this token's.
function Settle.refused(job, id, token)
  local held = redis.pcall('HMGET', job, 'status', 'origin', 'settled')
  if held.err or not held[1] or not held[2] then
    Ledger.remove(P .. 'leases', id)
    return 'gone'
  end
  return held[3] == token and 'already' or 'stale'
end

-- The job has not begun, as it was claimed for later, or is parked: what its wait had until this claim it
-- has again.
function Settle.wait_on(one, job, terms, now)
  local waited = redis.call('HGET', job, 'waited')
  local token, ends_at, key = string.match(waited or '', '^(%S+) (%d*) (%l*)$')
  if token ~= one.token then return end
  ends_at = sound(ends_at)
  local left_s = ends_at and math.max(0, (ends_at - now) / 1000000)
  Ready.arm_ttl(one.id, left_s, now)
  if key == 'key' and terms then Unique.take_back(terms, one.id, left_s) end
end

-- An attempt that was none: back to its place, or there later.
function Settle.uncharged(one, job, queue, now)
  redis.call('HDEL', job, 'lease')
  Ready.uncharge(job)
  redis.call('HSET', job, 'settled', one.token)
  if one.decision == 'put_back' then
    local held = redis.call('HMGET', job, 'score', 'priority', 'attempt', 'failure_ttl', 'terms')
    local score = Ready.place_again(held[1], held[2])
    local has_begun = Settle.field_of(one.fields, 'began') ~= '0'
    if has_begun then
      redis.call('HSET', job, 'back_at', int(now))
      Ledger.count(P .. 'stats:' .. queue, 'put_back')
    end
    local is_ready = Ending.enter_queue(one.id, queue, score, held[3], held[4], now)
    if is_ready and not has_begun then Settle.wait_on(one, job, held[5], now) end
  else
    redis.call('HSET', job, 'cause', Settle.cause_of(one.fields) or '')
    Ready.schedule(one.id, queue, now + one.delay_us)
    Settle.wait_on(one, job, redis.call('HGET', job, 'terms'), now)
  end
end

-- Now, or after the delay.
function Settle.run_again(one, job, queue, attempt, now)
  Settle.charge_run(job, one.decision, Settle.field_of(one.fields, 'run_again_for'))
  if one.delay_us > 0 then
    Ready.schedule(one.id, queue, now + one.delay_us)
  else
    redis.call('HSET', job, 'enqueued_at', int(now))
    local held = redis.call('HMGET', job, 'priority', 'failure_ttl')
    local at_front = Settle.field_of(one.fields, 'at_front') == '1'
    Ending.enter_queue(one.id, queue, Ready.next_score(held[1], at_front), attempt, held[2], now)
  end
  Ledger.count(P .. 'stats:' .. queue, one.decision == 'repeat' and 'repeated' or 'retried')
end

function Settle.attempt(one, now)
  local id, token, decision = one.id, one.token, one.decision
  local job = P .. 'job:' .. id
  local held = redis.pcall('HMGET', job, unpack(HELD))
  if held.err or held[1] ~= token or not held[2] then return Settle.refused(job, id, token) end
  local queue, attempt, result_ttl, cause_before = held[2], held[3], held[4], held[5]
  local of_ending = { beside = held[6], terms = held[7], dependents = held[8] }
  if decision == 'lose' then
    redis.call('HSET', job, 'settled', token)
    local lost = Reap.lose(id, now, nil, Settle.cause_of(one.fields))
    return lost and lost.ended or 'settled'
  end
  local fields, verdict = one.fields, 'settled'
  local stopped_by = AGAIN[decision] and Ending.told_to_stop(redis.call('HGET', job, 'stop'), token)
  if stopped_by and decision == 'repeat' then
    decision = 'finish'
  elseif stopped_by then
    decision, verdict, fields = 'stop', 'stopped', Settle.stopped_fields(stopped_by, fields)
  end
  local is_uncharged = decision == 'put_back' or decision == 'park'
  Ending.drop_lease(id, queue, of_ending.terms, now, is_uncharged)
  if is_uncharged then
    Settle.uncharged(one, job, queue, now)
    return 'settled'
  end
  if cause_before then redis.call('HDEL', job, 'cause', 'frame', 'host') end
  local more = { 'lease', '', 'settled', token, 'losses', '0' }
  if one.staged ~= '' then
    redis.call('RENAME', P .. 'staged:' .. one.staged, job .. ':result')
    redis.call('PERSIST', job .. ':result')
    -- Of a job that is repeated only the latest attempt with a large result has it still.
    for _, value in ipairs({ 'beside', 1, 'result_of', attempt or 0 }) do more[#more + 1] = value end
    of_ending.beside = 1
  end
  local why = Settle.cause_of(fields)
  if why then more[#more + 1], more[#more + 2] = 'cause', why end
  if one.moved_to then more[#more + 1], more[#more + 2] = 'worker', one.moved_to end
  Ending.record(id, RESULT[decision], attempt, fields, now)
  if decision == 'finish' then
    Ending.end_job(id, queue, 'finished', result_ttl, now, more, of_ending)
  elseif decision == 'fail' or decision == 'stop' then
    -- A search looks at hashes only.
    for _, name in ipairs({ 'frame', 'host' }) do
      local value = Settle.field_of(fields, name)
      if value then more[#more + 1], more[#more + 2] = name, value end
    end
    local ttl_s = redis.call('HGET', job, 'failure_ttl')
    Ending.end_job(id, queue, decision == 'fail' and 'failed' or 'stopped', ttl_s, now, more, of_ending)
  else
    redis.call('HSET', job, unpack(more))
    if decision == 'repeat' then Callbacks.call_back(id, 'finished', now, of_ending.terms) end
    Settle.run_again(one, job, queue, attempt, now)
  end
  return verdict
end
