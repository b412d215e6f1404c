-- one_job: what most enqueues are, one job with nothing special about it: for now, at the back, with no
-- limit to its wait, no terms that mean something before its start, and no staged payload; nobody had
-- its id or waits for it, nothing is paused, and each key is of its type. It writes what enqueue.lua
-- would, at a third of the cost; it uses none of the parts that are made when needed: it is done before
-- those are set up.

-- A template's fields may have terms: those that the claim or the end reads make no difference here.
local function has_terms_of_wait(packed_fields)
  if not string.find(packed_fields, 'terms', 1, true) then return false end
  for _, name in ipairs({ '"unique"', '"depends_on"', '"group"' }) do
    if string.find(packed_fields, name, 1, true) then return true end
  end
  return false
end

-- Nil for whatever else there is, before its first write.
local function enqueue_one(request, told, packed)
  if told == '' or packed == '' then return nil end
  local queue, front, priority, due, ttl, packed_fields, told_to =
    struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0', told)
  local id, like, staged, _, payload, description, more, packed_to =
    struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0I4c0', packed)
  priority = sound(priority)
  if told_to <= #told or packed_to <= #packed or front ~= '' or due ~= '' or ttl ~= '' or like ~= '1'
    or staged ~= '' or has_terms_of_wait(packed_fields) or not priority or math.abs(priority) > 4095 then
    return nil
  end
  local fields, few = texts_in(packed_fields), more ~= '' and texts_in(more) or nil
  local job, ready, wake = P .. 'job:' .. id, P .. 'queue:' .. queue, P .. 'wake:queue:' .. queue
  -- A read of each key is the look at its type, too; a queue with work is on the list of queues.
  if redis.call('EXISTS', job, job .. ':request', job .. ':results', job .. ':dependents',
    job .. ':dependents:any', P .. 'paused') > 0 then return nil end
  local waiting, has_work = redis.pcall('ZCARD', ready), redis.pcall('SISMEMBER', P .. 'nonempty', queue)
  local is_listed = waiting ~= 0 and has_work == 1 and 1 or redis.pcall('SISMEMBER', KEYS[1], queue)
  local marker = redis.pcall('ZSCORE', wake, 'look')
  if type(waiting) == 'table' or type(has_work) == 'table' or type(is_listed) == 'table'
    or type(marker) == 'table' or #fields % 2 == 1 or (few and #few % 2 == 1) then
    return nil
  end
  local place = redis.pcall('HINCRBY', P .. 'counters', 'back', 1)
  if type(place) ~= 'number' or not sound(place) then return nil end

  local time = redis.call('TIME')
  local stamp = time[1] .. string.sub('00000' .. time[2], -6)
  local score = string.format('%d', place - priority * 1099511627776)
  for i = 1, few and #few or 0 do fields[#fields + 1] = few[i] end
  if priority ~= 0 then fields[#fields + 1], fields[#fields + 2] = 'priority', priority end
  redis.call('HSET', job, 'description', description, 'payload', payload, 'request', request,
    'origin', queue, 'status', 'queued', 'created_at', stamp, 'enqueued_at', stamp, 'score', score,
    unpack(fields))
  redis.call('ZADD', ready, score, id)
  redis.pcall('HINCRBY', P .. 'stats:' .. queue, 'enqueued', 1)
  if is_listed == 0 then redis.call('SADD', KEYS[1], queue) end
  if has_work == 0 then redis.call('SADD', P .. 'nonempty', queue) end
  if not marker then redis.call('ZADD', wake, 0, 'look') end
  return stamp
end

local answer = (#ARGV == 3 or ARGV[4] == 'raise') and enqueue_one(ARGV[1], ARGV[2], ARGV[3])
if answer then return answer end
