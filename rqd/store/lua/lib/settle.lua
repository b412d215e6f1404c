-- settle: one attempt's outcome becomes the job's next state, if its token still holds the job.
-- Verdicts: 'settled'; 'abandoned' (settled: a loss too many); 'stopped' (it would have run again, but
-- was told to stop); 'already' (this token's settle came before: a reply was lost); 'stale' (another
-- claim holds the job, or nobody does); 'gone' (the job was deleted).
local RESULT = { finish = 'successful', ['repeat'] = 'successful', fail = 'failed', retry = 'retried',
  stop = 'stopped' }
-- After these the job would run again.
local AGAIN = { ['repeat'] = true, retry = true, put_back = true, park = true }

Settle.DECISIONS = { finish = true, ['repeat'] = true, fail = true, retry = true, put_back = true,
  park = true, lose = true, stop = true }

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

function Settle.attempt(one, now)
  local id, token, decision = one.id, one.token, one.decision
  local job = P .. 'job:' .. id
  local held = redis.pcall('HMGET', job, 'status', 'lease', 'settled', 'origin', 'score',
    'attempt', 'result_ttl', 'failure_ttl', 'priority', 'stop', 'terms')
  if held.err or not held[1] or not held[4] then
    redis.call('ZREM', P .. 'leases', id)
    return 'gone'
  end
  if held[3] == token then return 'already' end
  if held[2] ~= token then return 'stale' end
  local queue = held[4]
  if decision == 'lose' then
    redis.call('HSET', job, 'settled', token)
    local lost = Reap.lose(id, now, nil, Settle.cause_of(one.fields))
    return lost and lost.ended or 'settled'
  end
  local fields, verdict = one.fields, 'settled'
  local stopped_by = AGAIN[decision] and Ending.told_to_stop(held[10], token)
  if stopped_by and decision == 'repeat' then
    decision = 'finish'
  elseif stopped_by then
    decision, verdict, fields = 'stop', 'stopped', Settle.stopped_fields(stopped_by, fields)
  end
  local is_uncharged = decision == 'put_back' or decision == 'park'
  Ending.drop_lease(id, queue, held[11], now, is_uncharged)
  if is_uncharged then
    redis.call('HDEL', job, 'lease')
    Ready.uncharge(job)
    redis.call('HSET', job, 'settled', token)
    if decision == 'put_back' then
      Ending.enter_queue(id, queue, Ready.place_again(held[5], held[9]), held[6], held[8], now)
    else
      redis.call('HSET', job, 'cause', Settle.cause_of(fields) or '')
      Ready.schedule(id, queue, now + one.delay_us)
    end
    return 'settled'
  end
  redis.call('HDEL', job, 'lease', 'cause')
  local more = { 'settled', token, 'losses', 0 }
  if one.staged ~= '' then
    redis.call('RENAME', P .. 'staged:' .. one.staged, job .. ':result')
    redis.call('PERSIST', job .. ':result')
    -- Of a job that is repeated only the latest attempt with a large result has it still.
    for _, value in ipairs({ 'beside', 1, 'result_of', held[6] or 0 }) do more[#more + 1] = value end
  end
  local why = Settle.cause_of(fields)
  if why then more[#more + 1], more[#more + 2] = 'cause', why end
  Ending.record(id, RESULT[decision], held[6], fields, now)
  if decision == 'finish' then
    Ending.end_job(id, queue, 'finished', held[7], now, more)
  elseif decision == 'fail' then
    Ending.end_job(id, queue, 'failed', held[8], now, more)
  elseif decision == 'stop' then
    Ending.end_job(id, queue, 'stopped', held[8], now, more)
  else
    redis.call('HSET', job, unpack(more))
    if decision == 'repeat' then Callbacks.call_back(id, 'finished', now, held[11]) end
    Settle.charge_run(job, decision, Settle.field_of(one.fields, 'run_again_for'))
    if one.delay_us > 0 then
      Ready.schedule(id, queue, now + one.delay_us)
    else
      redis.call('HSET', job, 'enqueued_at', int(now))
      Ending.enter_queue(id, queue, Ready.next_score(held[9], false), held[6], held[8], now)
    end
    redis.pcall('HINCRBY', P .. 'stats:' .. queue, decision == 'repeat' and 'repeated' or 'retried', 1)
  end
  return verdict
end
