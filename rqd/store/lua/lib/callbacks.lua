-- callbacks: jobs that the end of another makes. That one's terms have each of them whole, as its
-- producer made and signed it: {on, id, queue, payload in hexadecimal digits, fields of its hash}.
local MOST_VALUES = 60 -- more than a job has
function Callbacks.from_hexadecimal(text)
  return (string.gsub(text, '%x%x', function(pair) return string.char(tonumber(pair, 16)) end))
end

-- A job may end more than once, requeued or repeated: its id is the producer's the first time. Of what
-- stands in Redis only text is taken, so that nothing of it can stop the script half way.
function Callbacks.make(one, now)
  local id = one.id
  if redis.call('EXISTS', P .. 'job:' .. id) == 1 then id = id .. '-' .. int(now) end
  local job, fields = P .. 'job:' .. id, {}
  for name, value in pairs(one.fields) do
    if type(name) == 'string' and type(value) == 'string' and #fields < MOST_VALUES then
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
  end
  redis.call('DEL', job, job .. ':results', job .. ':result', job .. ':payload')
  redis.call('HSET', job, 'origin', one.queue, 'payload', Callbacks.from_hexadecimal(one.payload),
    'created_at', int(now), 'enqueued_at', int(now), unpack(fields))
  if Ready.is_awaited(id) then redis.call('HSET', job, 'dependents', 1) end
  redis.pcall('SADD', P .. 'queues', one.queue)
  -- To the front: what has begun is to be finished.
  Ending.enter_queue(id, one.queue, Ready.next_score(0, true), 0, one.fields.failure_ttl, now)
  return id
end

-- A repeated job has an end of each of its runs, and the latest of them in its record.
local LONGEST_CHARS = 2000
function Callbacks.call_back(id, status, now, terms)
  local made = {}
  for _, one in ipairs(Terms.callbacks(terms, status)) do made[#made + 1] = Callbacks.make(one, now) end
  if not made[1] then return end
  local job = P .. 'job:' .. id
  local before = redis.call('HGET', job, 'callbacks')
  local told = (before and before .. ' ' or '') .. table.concat(made, ' ')
  if #told > LONGEST_CHARS then told = string.match(string.sub(told, -LONGEST_CHARS), ' (.*)$') or '' end
  redis.call('HSET', job, 'callbacks', told)
end
