-- enqueue: new jobs become ready, scheduled or deferred; all of them or none.
-- KEYS[1]  {ns}:queues
-- ARGV     request id; all templates, then all jobs, each kind in one string of packed texts (texts.lua). A
--          template is what jobs have in common, six texts: queue, '1' for at front, priority, due in us
--          ('' for now, '+N' for N us from now), ttl in s ('' for none), list of names and values of the
--          job's hash. A job is seven: id, number of its template, staged payload's name and size in bytes
--          ('' for none), payload ('' if staged), description, list of further names and values of its
--          hash ('' for none). Behind these, nothing; or 'raise': what would be refused is an error, as on
--          a pipeline nobody reads the answer; or 'look', a list of ids and groups, and a list of unique
--          keys and ids: nothing is written, and those have been enqueued, or have the keys
-- returns  now us, as most often; where unique keys had other jobs left in their place {'ok', now us,
--          {number of the job, id of the other, ..}}; {'duplicate', id} (a live job has this id, or the batch
--          has it twice); {'conflict', id, holder's id, unique key}; {'orphan', id, parent} (that
--          parent is neither in Redis nor before it in the batch); {'parent left out', id, parent,
--          holder's id, unique key}; {'awaited', id} (others wait for this id, and it would wait too);
--          {'circle', id, its group or the job it would replace} (by way of others it would wait for that);
--          or {'unstaged', id} (the staged payload is gone: stage it and send again)
-- Safe to send twice: a job that carries this request id was enqueued by the first sending, and
-- the answer is the first one.
--@ names texts one_job arguments ready terms unique limits ledger ending callbacks dependents groups circles
local request, told, packed = take(), take(), take()
local how, before, keys_before = nil, {}, {}
if #ARGV > 3 then how = take() end
if how == 'look' then before, keys_before = texts_in(take()), texts_in(take()) end
local refused = garbled()
if refused then return refused end

-- As answer {reason, id of the new job, ..}; or as an error, which redis-py raises.
local function refuse(answer)
  if how ~= 'raise' then return answer end
  local reasons = {
    duplicate = 'DUPLICATE job %s is not enqueued: a job with this id is still alive, or it is there twice',
    conflict = 'DUPLICATE job %s is not enqueued: job %s has the unique key %s',
    awaited = 'DUPLICATE job %s is not enqueued: others still wait for this id, and it would wait, too',
    ['parent left out'] = 'DUPLICATE job %s is not enqueued: it depends on %s, in whose place is job %s',
    orphan = 'ORPHAN job %s is not enqueued: it depends on %s, and there is no such job or group',
    circle = 'CIRCLE job %s is not enqueued: it depends on what waits for %s',
    unstaged = 'UNSTAGED job %s is not enqueued: its payload got lost on its way',
  }
  return redis.error_reply(string.format(reasons[answer[1]], answer[2], answer[3], answer[4]))
end

local NONE = {} -- one for all: a table a job costs
local jobs, templates, queues, names = {}, {}, {}, {}

local from = 1
while from <= #told do
  local queue, front, priority, due, ttl, packed_fields
  queue, front, priority, due, ttl, packed_fields, from =
    struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0', told, from)
  local after, fields = sound(string.match(due, '^%+?(.*)$')), texts_in(packed_fields)
  local template = { queue = queue, front = front == '1', priority = sound(priority), due = due,
    ttl = sound(ttl), fields = fields, is_plain = false }
  if (due ~= '' and not after) or (ttl ~= '' and not template.ttl) or #fields % 2 == 1
    or not template.priority or math.abs(template.priority) > 4095 then
    return redis.error_reply("ERR these are none of this script's arguments")
  end
  for at = 1, #fields, 2 do
    if fields[at] == 'terms' then
      template.unique = Unique.of(fields[at + 1])
      template.dependency = Dependents.dependency_of(fields[at + 1])
      template.group = Groups.of(fields[at + 1])
    end
  end
  local function add(name, value)
    fields[#fields + 1], fields[#fields + 2] = name, value
  end
  add('request', request)
  add('origin', queue)
  add('status', 'queued')
  if template.priority ~= 0 then add('priority', priority) end
  if template.ttl then add('ttl', ttl) end
  template.is_plain = due == '' and not template.front and not template.dependency
  templates[#templates + 1] = template
  queues[queue] = queues[queue] or { is_due = false, is_deferred = false, ready = {} }
  queues[queue].is_due = queues[queue].is_due or template.due ~= ''
  queues[queue].is_deferred = queues[queue].is_deferred or template.dependency ~= nil
end
from = 1
while from <= #packed do
  local id, like, staged, size, payload, description, more
  id, like, staged, size, payload, description, more, from =
    struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0I4c0', packed, from)
  local new = { id = id, like = templates[tonumber(like)], staged = staged, size = size,
    payload = payload, description = description, more = more == '' and NONE or texts_in(more),
    is_again = false }
  if not new.like then return redis.error_reply("ERR these are none of this script's arguments") end
  jobs[#jobs + 1] = new
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
  if has.is_deferred then
    touch(P .. 'queue:' .. queue .. ':deferred', 'zset')
    touch(P .. 'scheduled', 'zset')
  end
end

local has_groups = false
for _, template in ipairs(templates) do
  if template.group then
    has_groups = true
    local group = P .. 'group:' .. template.group
    touch(P .. 'groups', 'zset')
    touch(group, 'hash')
    touch(group .. ':jobs', 'zset')
    touch(group .. ':open', 'set')
    touch(group .. ':ended', 'hash')
  end
end

-- What a unique key means for a new job: nil if it is free, 'left out' for the one that has it,
-- 'replacing' that one, or 'refused'. In one batch the first job of a key has it.
local left_out, left_out_for, keys_taken = {}, {}, {}
for i = 1, #keys_before, 2 do keys_taken[P .. 'unique:' .. keys_before[i]] = keys_before[i + 1] end
for _, name in ipairs(before) do names[name] = true end
local function meet_holder(number, new, unique)
  touch(unique.key, 'string')
  local first = keys_taken[unique.key]
  local holder = first and { id = first } or Unique.holder_of(unique)
  new.holder = holder
  if holder and unique.on_conflict == 'existing' and (first or holder.status) then
    left_out[#left_out + 1], left_out[#left_out + 2] = number, holder.id
    left_out_for[new.id] = { id = holder.id, key = unique.name }
    return 'left out'
  end
  keys_taken[unique.key] = new.id
  if not holder then return nil end
  if unique.on_conflict ~= 'replace' or not Unique.HOLDS.started[holder.status] then return 'refused' end
  touch(P .. 'queue:' .. holder.queue, 'zset')
  touch(P .. 'scheduled', 'zset')
  return 'replacing'
end

-- Why a job can't wait for its parents; nil if it can. One that is left out never ends, and to name the
-- other in its place is for the producer, who may have signed what it sent. Who has waited for an ended
-- job waits for the next one of its id: if that waited too, they might wait for one another.
local function unfit_to_wait(new)
  if Ready.is_awaited(new.id) then return { 'awaited', new.id } end
  local own_group = 'group:' .. (new.like.group or '')
  for _, parent in ipairs(new.like.dependency.ids) do
    local instead = left_out_for[parent]
    if instead and instead.id ~= parent then
      return { 'parent left out', new.id, parent, instead.id, instead.key }
    end
    if parent == new.id or parent == own_group or not (Dependents.status_of(parent) or names[parent]) then
      return { 'orphan', new.id, parent }
    end
    touch(Ready.parent_key(parent), 'hash')
    touch(Ready.parent_key(parent) .. ':dependents', 'zset')
    touch(Ready.parent_key(parent) .. ':dependents:any', 'zset')
  end
end

-- Which jobs the first sending left out is not found in the jobs themselves, and another answer about
-- one of them must not come before the request is found in a later one.
local memo_key = P .. 'left-out:' .. request
for _, template in ipairs(templates) do
  if template.unique and template.unique.on_conflict == 'existing' then
    local is_whole, memo = pcall(cmsgpack.unpack, redis.pcall('GET', memo_key))
    if is_whole and type(memo) == 'table' and memo[2] then return { 'ok', memo[1], memo[2] } end
    break
  end
end

local done_at -- when the first sending came, if this is a replay
local is_any_paused = false
local kept = {} -- the jobs that are not left out
for number, new in ipairs(jobs) do
  local job = P .. 'job:' .. new.id
  local old, gone_at, gone_by = NONE, nil, nil
  -- That something is paused is asked with the rest: one command, and most often the answer is none.
  if redis.call('EXISTS', job, job .. ':request', job .. ':results', job .. ':dependents',
    job .. ':dependents:any', P .. 'paused') > 0 then
    new.is_again, is_any_paused = true, true
    old = redis.pcall('HMGET', job, 'request', 'status', 'origin', 'created_at', 'terms')
    if old.err then return refusal({ job, 'hash' }) end
    local gone = not old[1] and redis.pcall('GET', job .. ':request')
    if type(gone) == 'string' then gone_at, gone_by = string.match(gone, '^(%d+) (.*)$') end
  end
  if old[1] == request or gone_by == request then
    done_at = gone_at or old[4] or int(now_us())
    break
  end
  local unique = new.like.unique
  local met = unique and meet_holder(number, new, unique)
  if met == 'refused' then
    return refuse({ 'conflict', new.id, new.holder.id, unique.name })
  elseif met ~= 'left out' then
    if names[new.id] or (old[2] and Dependents.LIVE[old[2]]) then
      return refuse({ 'duplicate', new.id })
    elseif new.staged ~= '' and redis.call('EXISTS', P .. 'staged:' .. new.staged) == 0 then
      return refuse({ 'unstaged', new.id })
    elseif old[3] and Ending.INDEX[old[2]] then
      new.old_queue, new.old_status = old[3], old[2]
      touch(P .. 'queue:' .. old[3] .. ':' .. Ending.INDEX[old[2]], 'zset')
      new.old_group = old[5] and Groups.of(old[5])
    end
    local unfit = new.like.dependency and unfit_to_wait(new)
    if unfit then return refuse(unfit) end
    new.is_replacing = met == 'replacing'
    names[new.id] = true
    if new.like.group then names['group:' .. new.like.group] = true end
    kept[#kept + 1] = new
  end
end
if done_at then return done_at end
refused = refusal(touched)
if refused then return refused end
local circle = Circles.find(kept)
if circle then return refuse(circle) end
if how == 'look' or not kept[1] then return { 'ok', int(now_us()), left_out } end
jobs = kept

local now = now_us()
local stamp = int(now)
local at_back = 0
for _, new in ipairs(jobs) do
  if new.like.is_plain then at_back = at_back + 1 end
end
-- One step of the counter for the whole batch.
local place = at_back > 0 and Ready.count(P .. 'counters', 'back', at_back) - at_back or 0
for _, template in ipairs(templates) do
  local fields = template.fields
  fields[#fields + 1], fields[#fields + 2] = 'created_at', stamp
  if template.due == '' and not template.dependency then
    fields[#fields + 1], fields[#fields + 2] = 'enqueued_at', stamp
  end
end

local function add(fields, name, value)
  fields[#fields + 1], fields[#fields + 2] = name, value
end

local function due_of(like)
  local is_delay = string.sub(like.due, 1, 1) == '+'
  return is_delay and now + tonumber(string.sub(like.due, 2)) or tonumber(like.due)
end

-- The parents a new job waits for; and one that will never finish, with its status.
local function parents_to_wait_for(dependency)
  local parents, lost, status_of_lost = {}, nil, nil
  for _, parent in ipairs(dependency.ids) do
    local status = Dependents.status_of(parent)
    local verdict = Dependents.judge(status, dependency.on_failure)
    if verdict == 'wait' then parents[#parents + 1] = parent end
    if status == 'created' then
      -- If it expired before its own enqueue, nothing would end the wait.
      redis.call('PERSIST', Ready.parent_key(parent))
      redis.call('PERSIST', Ready.parent_key(parent) .. ':payload')
    end
    if verdict == 'cancel' then lost, status_of_lost = parent, status end
  end
  return parents, lost, status_of_lost
end

-- Before any of them is made: where one takes the place of a group's last job, or is canceled at once, the
-- group must not end for the others.
for _, new in ipairs(has_groups and jobs or NONE) do
  if new.like.group then Groups.join(new.like.group, new.id, now) end
end
for _, new in ipairs(jobs) do
  local id, like = new.id, new.like
  local job = P .. 'job:' .. id
  queues[like.queue].count = (queues[like.queue].count or 0) + 1
  local parents, lost, status_of_lost = NONE, nil, nil
  if like.dependency then
    parents, lost, status_of_lost = parents_to_wait_for(like.dependency)
  end
  local is_deferred = parents[1] or lost
  if new.is_replacing then
    local old = new.holder
    -- The end of another one that this batch replaces may have been its end, too.
    local status = Dependents.status_of(old.id)
    if Unique.HOLDS.started[status] then
      Ending.cancel_job(old.id, old.queue, status, old.ttl_s, now, { 'cause', 'replaced by job ' .. id })
    end
  end
  if new.is_again then
    -- The id of an ended job is used again: its old record makes room.
    if new.old_queue then Ending.unlist(id, new.old_queue, new.old_status) end
    redis.call('DEL', job, job .. ':results', job .. ':payload', job .. ':result')
    if Ready.is_awaited(id) then redis.call('HSET', job, 'dependents', 1) end
    if new.old_group and new.old_group ~= like.group then Groups.end_job(new.old_group, id, 'gone', now) end
  end
  local fields
  if new.staged == '' then
    fields = { 'description', new.description, 'payload', new.payload, unpack(like.fields) }
  else
    redis.call('RENAME', P .. 'staged:' .. new.staged, job .. ':payload')
    redis.call('PERSIST', job .. ':payload')
    fields = { 'description', new.description, 'beside', 1, 'payload_bytes', new.size, unpack(like.fields) }
  end
  for i = 1, #new.more, 2 do add(fields, new.more[i], new.more[i + 1]) end
  if is_deferred then
    add(fields, 'status', 'deferred')
    if like.front then add(fields, 'front', 1) end
    if like.due ~= '' then add(fields, 'due', int(due_of(like))) end
    redis.call('HSET', job, unpack(fields))
    local order = Ready.count(P .. 'counters', 'back', 1)
    Dependents.defer(id, like.queue, parents, like.dependency.on_failure, order, now)
  elseif like.due == '' then
    local score
    if like.is_plain then
      place = place + 1
      score = Ready.score_of(like.priority, place)
    else
      score = Ready.next_score(like.priority, like.front)
    end
    if like.dependency then add(fields, 'enqueued_at', stamp) end
    redis.call('HSET', job, 'score', score, unpack(fields)) -- to add it would have the table grow
    add(queues[like.queue].ready, score, id)
    if like.ttl then Ready.arm_ttl(id, like.ttl, now) end
  else
    if like.front then add(fields, 'front', 1) end
    redis.call('HSET', job, unpack(fields))
    Ready.schedule(id, like.queue, due_of(like))
  end
  -- A scheduled or deferred job's time to live begins with its wait for a worker.
  local is_ready = like.due == '' and not is_deferred
  if like.unique then Unique.hold(like.unique, id, is_ready and like.ttl or nil) end
  if lost then
    local failure_ttl = redis.call('HGET', job, 'failure_ttl')
    Dependents.cancel(id, like.queue, lost, status_of_lost, failure_ttl, now)
  end
end
for queue, has in pairs(queues) do
  redis.call('SADD', KEYS[1], queue)
  for i = 1, #has.ready, 1000 do
    redis.call('ZADD', P .. 'queue:' .. queue, unpack(has.ready, i, math.min(i + 999, #has.ready)))
  end
  if has.count then redis.pcall('HINCRBY', P .. 'stats:' .. queue, 'enqueued', has.count) end
  if has.ready[1] then Ready.announce(queue, not is_any_paused) end
end
if not left_out[1] then return stamp end
redis.call('SET', memo_key, cmsgpack.pack({ stamp, left_out }), 'EX', Ready.REPLAY_S)
return { 'ok', stamp, left_out }
