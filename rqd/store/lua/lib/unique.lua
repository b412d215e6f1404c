-- unique: one job at a time has a key, until it starts, until its end, or for a time. Under
-- unique:<key> stand the scope and the job's id; whether that job still holds it is asked of the job
-- itself, so that a key which was left behind keeps nobody out.
Unique.HOLDS = {
  finished = { queued = true, scheduled = true, deferred = true, started = true },
  started = { queued = true, scheduled = true, deferred = true },
  window = {},
}

-- {key, scope, ms of the window, on_conflict} of a job's terms; nil for none.
function Unique.of(terms)
  local unique = Terms.part(terms, 'unique')
  if not unique or type(unique.key) ~= 'string' then return nil end
  local for_ms = sound(unique['until'])
  local scope = for_ms and 'window' or unique['until']
  if not Unique.HOLDS[scope] or (for_ms and for_ms < 1) then return nil end
  return { key = P .. 'unique:' .. unique.key, name = unique.key, scope = scope, for_ms = for_ms,
    on_conflict = unique.on_conflict }
end

-- Who has the key: {id, status, queue, record's time to live}, the status nil if the job is gone and
-- only the window lasts; nil if it is free.
function Unique.holder_of(unique)
  local kept = redis.pcall('GET', unique.key)
  if type(kept) ~= 'string' then return nil end
  local scope, id = string.match(kept, '^(%l+) ([%w_-]+)$')
  if not Unique.HOLDS[scope] then return nil end
  local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'origin', 'result_ttl', 'terms')
  local its = not held.err and Unique.of(held[4])
  local is_its = its and its.key == unique.key
  if scope == 'window' then
    if redis.call('PTTL', unique.key) < 0 then return nil end
  elseif not is_its or not Unique.HOLDS[scope][held[1]] then
    return nil
  end
  if not is_its then return { id = id } end
  return { id = id, status = held[1], queue = held[2] or '', ttl_s = held[3] }
end

-- `ttl_s`: of the job's wait, if that is limited: then the key ends with it.
function Unique.hold(unique, id, ttl_s)
  local for_ms = unique.for_ms and int(math.ceil(unique.for_ms)) or Ready.in_ms(sound(ttl_s))
  local kept = unique.scope .. ' ' .. id
  if for_ms then
    redis.call('SET', unique.key, kept, 'PX', for_ms)
  else
    redis.call('SET', unique.key, kept)
  end
end

function Unique.holds(unique, id)
  return redis.pcall('GET', unique.key) == unique.scope .. ' ' .. id
end

-- The job has ended; where it did not run, or is to be as if it had not, a window ends too.
function Unique.release(terms, id, is_dropped)
  local unique = Unique.of(terms)
  if unique and (is_dropped or unique.scope ~= 'window') and Unique.holds(unique, id) then
    redis.call('DEL', unique.key)
  end
end

-- The job starts: what goes back to its queue later does so without its key, if that was until its
-- start. True if it had a key that its wait concerns.
function Unique.start(terms, id)
  local unique = Unique.of(terms)
  if not unique or unique.scope == 'window' or not Unique.holds(unique, id) then return false end
  redis.call(unique.scope == 'started' and 'DEL' or 'PERSIST', unique.key)
  return true
end

-- The job has not started after all: it has its key again, unless another took it meanwhile.
function Unique.take_back(terms, id, ttl_s)
  local unique = Unique.of(terms)
  if not unique or unique.scope == 'window' or is_foreign(unique.key, 'string') then return end
  local holder = Unique.holder_of(unique)
  if not holder or holder.id == id then Unique.hold(unique, id, ttl_s) end
end

-- A job that waits a limited time does so from now on.
function Unique.expire_with_wait(terms, id, ttl_s)
  local unique, ttl_ms = Unique.of(terms), Ready.in_ms(sound(ttl_s))
  if unique and ttl_ms and unique.scope ~= 'window' and Unique.holds(unique, id) then
    redis.call('PEXPIRE', unique.key, ttl_ms)
  end
end
