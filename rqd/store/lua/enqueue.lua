-- enqueue: new jobs become ready, or scheduled; all of them or none.
-- KEYS[1]  {ns}:queues
-- ARGV     request id, number of jobs, then for each job: id, queue, '1' for at front, priority,
--          due in us ('' for now, '+N' for N us from now), staged payload's name ('' for none),
--          number of further fields and values, those fields and values of the job's hash
-- returns  {'ok', now us} or {'duplicate', id} (a live job has this id) or {'wrongtype', key}
-- Safe to send twice: a job whose hash carries this request id was enqueued by the first sending.
--@ names ready ending
local request = ARGV[1]
local count = tonumber(ARGV[2])
local LIVE = { queued = true, started = true, scheduled = true, deferred = true }
local jobs, at = {}, 3
for _ = 1, count do
  local extra = tonumber(ARGV[at + 6])
  jobs[#jobs + 1] = { id = ARGV[at], queue = ARGV[at + 1], front = ARGV[at + 2] == '1',
    priority = tonumber(ARGV[at + 3]), due = ARGV[at + 4], staged = ARGV[at + 5],
    first = at + 7, last = at + 6 + extra }
  at = at + 7 + extra
end

for _, new in ipairs(jobs) do
  local job = P .. 'job:' .. new.id
  if not is_type(job, 'hash') then return { 'wrongtype', job } end
  if not is_type(P .. 'queue:' .. new.queue, 'zset') then return { 'wrongtype', P .. 'queue:' .. new.queue } end
  local old = redis.call('HMGET', job, 'request', 'status', 'origin')
  new.mine = old[1] == request
  new.old_status, new.old_queue = old[2], old[3]
  if not new.mine and LIVE[old[2]] then return { 'duplicate', new.id } end
end

local now = now_us()
for _, new in ipairs(jobs) do
  if not new.mine then
    local job = P .. 'job:' .. new.id
    if new.old_status then
      -- The id of an ended job is used again: its old record makes room.
      redis.call('ZREM', P .. 'queue:' .. new.old_queue .. ':' .. INDEX[new.old_status], new.id)
      redis.call('DEL', job .. ':results', job .. ':payload', job .. ':result')
    end
    redis.call('DEL', job)
    redis.call('SADD', KEYS[1], new.queue)
    redis.call('HSET', job, 'request', request, 'origin', new.queue, 'created_at', int(now),
      'priority', new.priority, unpack(ARGV, new.first, new.last))
    if new.staged ~= '' then
      redis.call('RENAME', P .. 'staged:' .. new.staged, job .. ':payload')
      redis.call('PERSIST', job .. ':payload')
    end
    local due = new.due
    if due == '' then
      redis.call('HSET', job, 'enqueued_at', int(now))
      make_ready(new.id, new.queue, next_score(new.priority, new.front))
    elseif string.sub(due, 1, 1) == '+' then
      schedule(new.id, new.queue, now + tonumber(string.sub(due, 2)))
    else
      schedule(new.id, new.queue, tonumber(due))
    end
    local ttl = redis.call('HGET', job, 'ttl')
    if ttl and due == '' then redis.call('PEXPIRE', job, math.max(1, math.ceil(tonumber(ttl) * 1000))) end
  end
end
return { 'ok', int(now) }
