-- enqueue: new jobs become ready, or scheduled; all of them or none.
-- KEYS[1]  {ns}:queues
-- ARGV     request id, number of jobs, then for each job: id, queue, '1' for at front, priority,
--          due in us ('' for now, '+N' for N us from now), ttl in s ('' for none), staged payload's
--          name ('' for none), number of further fields and values, those of the job's hash
-- returns  {'ok', now us}, {'duplicate', id} (a live job has this id, or the batch has it twice),
--          or {'unstaged', id} (the staged payload is gone: stage it and send again)
-- Safe to send twice: a job that carries this request id was enqueued by the first sending, and
-- the answer is the first one.
--@ names ready ending
local request = ARGV[1]
local LIVE = { queued = true, started = true, scheduled = true, deferred = true }
local jobs, queues, names, at = {}, {}, {}, 3
for i = 1, tonumber(ARGV[2]) do
  local extra = tonumber(ARGV[at + 7])
  jobs[i] = { id = ARGV[at], queue = ARGV[at + 1], front = ARGV[at + 2] == '1',
    priority = tonumber(ARGV[at + 3]), due = ARGV[at + 4], ttl = tonumber(ARGV[at + 5]),
    staged = ARGV[at + 6], first = at + 8, last = at + 7 + extra }
  at = at + 8 + extra
  local queue = queues[jobs[i].queue] or { is_due = false }
  queue.is_due = queue.is_due or jobs[i].due ~= ''
  queues[jobs[i].queue] = queue
end

local touched = { KEYS[1], 'set', P .. 'nonempty', 'set', P .. 'counters', 'hash' }
local function touch(key, kind)
  touched[#touched + 1], touched[#touched + 2] = key, kind
end
for queue, has in pairs(queues) do
  touch(P .. 'queue:' .. queue, 'zset')
  touch(P .. 'wake:queue:' .. queue, 'zset')
  if has.is_due then
    touch(P .. 'queue:' .. queue .. ':scheduled', 'zset')
    touch(P .. 'scheduled', 'zset')
    touch(P .. 'masters', 'zset')
  end
end

local done_at -- when the first sending came, if this is a replay
for _, new in ipairs(jobs) do
  local job = P .. 'job:' .. new.id
  local old = redis.pcall('HMGET', job, 'request', 'status', 'origin', 'created_at')
  if old.err then return refusal({ job, 'hash' }) end
  local gone = not old[1] and redis.call('GET', job .. ':request')
  local gone_at, gone_by
  if gone then gone_at, gone_by = string.match(gone, '^(%d+) (.*)$') end
  if old[1] == request or gone_by == request then
    done_at = gone_at or old[4]
  elseif LIVE[old[2]] or names[new.id] then
    return { 'duplicate', new.id }
  elseif new.staged ~= '' and redis.call('EXISTS', P .. 'staged:' .. new.staged) == 0 then
    return { 'unstaged', new.id }
  elseif old[2] then
    new.old_index = P .. 'queue:' .. old[3] .. ':' .. INDEX[old[2]]
    touch(new.old_index, 'zset')
  end
  names[new.id] = true
end
if done_at then return { 'ok', done_at } end
local refused = refusal(touched)
if refused then return refused end

local now = now_us()
local stamp = int(now)
local at_back = 0
for _, new in ipairs(jobs) do
  if new.due == '' and not new.front then at_back = at_back + 1 end
end
-- One step of the counter for the whole batch.
local place = at_back > 0 and redis.call('HINCRBY', P .. 'counters', 'back', at_back) - at_back or 0

for _, new in ipairs(jobs) do
  local id, queue = new.id, new.queue
  local job = P .. 'job:' .. id
  if new.old_index then
    -- The id of an ended job is used again: its old record makes room.
    redis.call('ZREM', new.old_index, id)
    redis.call('DEL', job, job .. ':results', job .. ':payload', job .. ':result')
  end
  local score
  if new.due == '' then
    if new.front then
      score = next_score(new.priority, true)
    else
      place = place + 1
      score = score_of(new.priority, place)
    end
  end
  redis.call('HSET', job, 'request', request, 'origin', queue, 'created_at', stamp,
    'enqueued_at', score and stamp or '', 'status', 'queued', 'score', score or '',
    'priority', new.priority, unpack(ARGV, new.first, new.last))
  if new.staged ~= '' then
    redis.call('RENAME', P .. 'staged:' .. new.staged, job .. ':payload')
    redis.call('PERSIST', job .. ':payload')
    redis.call('HSET', job, 'beside', 1)
  end
  if new.ttl then redis.call('HSET', job, 'ttl', ARGV[new.first - 3]) end
  if score then
    redis.call('ZADD', P .. 'queue:' .. queue, score, id)
    queues[queue].is_ready = true
    if new.ttl then
      arm_ttl(id, new.ttl)
      if new.ttl < REPLAY_S then remember_request(id, request, stamp, now) end
    end
  else
    if new.front then redis.call('HSET', job, 'front', 1) end
    local is_delay = string.sub(new.due, 1, 1) == '+'
    schedule(id, queue, is_delay and now + tonumber(string.sub(new.due, 2)) or tonumber(new.due))
  end
end
for queue, has in pairs(queues) do
  redis.call('SADD', KEYS[1], queue)
  if has.is_ready then announce(queue) end
end
return { 'ok', int(now) }
