-- settle: one attempt's outcome becomes the job's next state, if its token still holds the job.
-- Verdicts: 'settled'; 'already' (this token's settle came before: a reply was lost); 'stale'
-- (another claim holds the job, or nobody does); 'gone' (the job was deleted).
local RESULT = { finish = 'successful', fail = 'failed', retry = 'retried' }

local function settle(id, token, decision, delay_us, staged, fields, now)
  local job = P .. 'job:' .. id
  local held = redis.call('HMGET', job, 'status', 'lease', 'settled', 'origin', 'score',
    'attempt', 'result_ttl', 'failure_ttl', 'priority')
  if not held[1] then return 'gone' end
  if held[3] == token then return 'already' end
  if held[2] ~= token then return 'stale' end
  local queue = held[4]
  drop_lease(id, queue)
  redis.call('HSET', job, 'settled', token)
  if decision == 'put_back' then
    redis.call('HINCRBY', job, 'attempt', -1)
    make_ready(id, queue, held[5])
    return 'settled'
  end
  if staged ~= '' then redis.call('RENAME', P .. 'staged:' .. staged, job .. ':result') end
  record(id, RESULT[decision], held[6], fields)
  redis.call('HSET', job, 'losses', 0)
  if decision == 'finish' then
    redis.call('HDEL', job, 'cause')
    end_job(id, queue, 'finished', tonumber(held[7]), now)
    return 'settled'
  end
  for i = 1, #fields, 2 do
    if fields[i] == 'cause' then redis.call('HSET', job, 'cause', fields[i + 1]) end
  end
  if decision == 'fail' then
    end_job(id, queue, 'failed', tonumber(held[8]), now)
  else
    redis.call('HINCRBY', job, 'retries_left', -1)
    redis.call('HINCRBY', job, 'retries_used', 1)
    redis.call('HINCRBY', P .. 'stats:' .. queue, 'retried', 1)
    if delay_us > 0 then
      schedule(id, queue, now + delay_us)
    else
      make_ready(id, queue, next_score(tonumber(held[9]), false))
    end
  end
  return 'settled'
end
