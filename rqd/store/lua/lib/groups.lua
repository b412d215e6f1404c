-- groups: jobs that belong together. `group:<name>` counts how its jobs have ended, by status;
-- `group:<name>:jobs` has them all in the order of their enqueue, `group:<name>:open` those that have
-- not ended, `group:<name>:ended` how each of the others did, with KEPT behind it if its record stays for
-- ever. Jobs can wait for a group's end.
-- It stays so long at least after the end of its last job, that its counts can be read.
local GROUP_US = 86400 * 1000000
local KEPT = ' kept'

-- The group that a job's terms name; nil for none.
function Groups.of(terms)
  local group = Terms.part(terms, 'group')
  local name = group and group.name
  return type(name) == 'string' and string.find(name, '^[%w_-]+$') and name or nil
end

function Groups.is_damaged(group)
  return is_foreign(group, 'hash') or is_foreign(group .. ':jobs', 'zset')
    or is_foreign(group .. ':open', 'set') or is_foreign(group .. ':ended', 'hash')
    or is_foreign(P .. 'groups', 'zset')
end

-- A job is not among those that have ended, if it ever was.
function Groups.uncount(group, id)
  local ending = redis.call('HGET', group .. ':ended', id)
  local status, kept = string.match(ending or '', '^(%l+)(.*)$')
  if not status then return end
  redis.call('HDEL', group .. ':ended', id)
  Ready.count(group, status, -1)
  if kept == KEPT then Ready.count(group, 'kept', -1) end
end

function Groups.open(name, id)
  local group = P .. 'group:' .. name
  Groups.uncount(group, id)
  redis.call('SADD', group .. ':open', id)
  for _, part in ipairs({ '', ':jobs', ':ended' }) do redis.call('PERSIST', group .. part) end
  redis.call('ZADD', P .. 'groups', '+inf', name)
end

-- A new job; it may take the place of an ended one of its id.
function Groups.join(name, id, now)
  local group = P .. 'group:' .. name
  redis.call('HSETNX', group, 'created_at', int(now))
  redis.call('ZADD', group .. ':jobs', 'NX', Ready.count(P .. 'counters', 'back', 1), id)
  Groups.open(name, id)
end

-- A job that has ended will run again.
function Groups.rejoin(terms, id)
  local name = Groups.of(terms)
  local group = P .. 'group:' .. (name or '')
  if not name or Groups.is_damaged(group) then return end
  if not redis.call('ZSCORE', group .. ':jobs', id) then return end
  Groups.open(name, id)
end

-- The last of its jobs has ended, or was deleted.
function Groups.close(name, now)
  local group = P .. 'group:' .. name
  local held = redis.call('HMGET', group, 'expires', 'dependents', 'kept')
  if redis.call('EXISTS', group .. ':jobs') == 0 then
    redis.call('DEL', group)
    redis.call('ZREM', P .. 'groups', name)
  elseif (sound(held[3]) or 0) <= 0 then
    local expires = math.max(sound(held[1]) or 0, now + GROUP_US)
    for _, part in ipairs({ '', ':jobs', ':ended' }) do
      redis.call('PEXPIREAT', group .. part, int(math.ceil(expires / 1000)))
    end
    redis.call('ZADD', P .. 'groups', int(expires), name)
    Ending.forget_expired(P .. 'groups', now, 2)
  end
  if held[2] then Dependents.concern('group:' .. name, 'finished', now) end
end

-- A job has ended; its group is told of as long as its record stays.
function Groups.note_ending(group, id, status, now)
  local ttl_ms = redis.call('PTTL', P .. 'job:' .. id)
  local is_kept = ttl_ms == -1
  redis.call('HSET', group .. ':ended', id, status .. (is_kept and KEPT or ''))
  Ready.count(group, status, 1)
  if is_kept then
    Ready.count(group, 'kept', 1)
  elseif ttl_ms > 0 then
    local expires = math.max(sound(redis.call('HGET', group, 'expires')) or 0, now + ttl_ms * 1000)
    redis.call('HSET', group, 'expires', int(expires))
  end
end

-- Keys of a group that hold something else must not keep a job from its end.
function Groups.end_job(name, id, status, now)
  local group = P .. 'group:' .. name
  if Groups.is_damaged(group) then return end
  local was_open = redis.call('SREM', group .. ':open', id) == 1
  if Ending.INDEX[status] then
    if not was_open then return end
    Groups.note_ending(group, id, status, now)
  else
    if redis.call('ZREM', group .. ':jobs', id) == 0 then return end
    Groups.uncount(group, id)
  end
  if redis.call('EXISTS', group .. ':open') == 0 then Groups.close(name, now) end
end
