-- circles: new jobs that would wait for themselves, by way of others: for their own group's end, or for
-- the job in whose place they come.
-- So many that wait already are looked at; what lies behind them is taken for no circle.
local MOST = 1000
local looked_at = 0

-- Whom the jobs and groups of a batch will wait for: a job for its parents, a group for its new jobs. And
-- the groups among the parents.
function Circles.within(jobs)
  local fresh, groups = {}, {}
  for _, new in ipairs(jobs) do
    local group = new.like.group and 'group:' .. new.like.group
    if group then
      fresh[group] = fresh[group] or {}
      table.insert(fresh[group], new.id)
    end
    fresh[new.id] = new.like.dependency and new.like.dependency.ids or {}
    for _, parent in ipairs(fresh[new.id]) do
      if string.find(parent, ':', 1, true) then groups[parent] = true end
    end
  end
  return fresh, groups
end

-- Whom a job or a group that is in Redis waits for.
function Circles.awaited_by(one)
  local left = MOST - looked_at
  if left <= 0 then return {} end
  local is_group = string.find(one, ':', 1, true)
  local key = Ready.parent_key(one) .. (is_group and ':open' or ':awaited')
  local found = redis.pcall('SRANDMEMBER', key, left)
  looked_at = looked_at + 1
  return found.err and {} or found
end

-- Whether `from` waits for `to`; `seen` has those of which it is known that they don't.
function Circles.leads(from, to, fresh, seen)
  local ahead = { from }
  while ahead[1] do
    local one = table.remove(ahead)
    if one == to then return true end
    if not seen[one] then
      seen[one] = true
      for _, awaited in ipairs({ fresh[one] or {}, Circles.awaited_by(one) }) do
        for _, next in ipairs(awaited) do ahead[#ahead + 1] = next end
      end
    end
  end
  return false
end

-- The first new job that would: {'circle', its id, its group or whom it replaces}; nil if none would.
function Circles.find(jobs)
  local fresh, groups, seen = nil, nil, {}
  local function closes(new, to)
    seen[to] = seen[to] or {}
    for _, parent in ipairs(new.like.dependency.ids) do
      if Circles.leads(parent, to, fresh, seen[to]) then return { 'circle', new.id, to } end
    end
  end
  for _, new in ipairs(jobs) do
    if new.like.dependency and (new.like.group or new.is_replacing) then
      if not fresh then fresh, groups = Circles.within(jobs) end
      local group = 'group:' .. (new.like.group or '')
      local is_awaited = groups[group]
        or redis.call('EXISTS', P .. group .. ':dependents', P .. group .. ':dependents:any') > 0
      local found = is_awaited and closes(new, group) or new.is_replacing and closes(new, new.holder.id)
      if found then return found end
    end
  end
end
