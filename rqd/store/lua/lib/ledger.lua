-- ledger: what one run of a script writes to indexes and counters for many jobs, in a command a key.
-- Until it is opened, and after it was closed, each goes to Redis by itself. All with pcall: a key that
-- holds something else must not keep a job from its end.
local PORTION = 500
local is_open = false
local removed, added, counted = {}, {}, {}

function Ledger.open() is_open = true end

function Ledger.remove(key, member)
  if not is_open then return redis.pcall('ZREM', key, member) end
  local members = removed[key] or {}
  removed[key], members[#members + 1] = members, member
end

function Ledger.add(key, score, member)
  if not is_open then return redis.pcall('ZADD', key, score, member) end
  local pairs_of = added[key] or {}
  added[key], pairs_of[#pairs_of + 1], pairs_of[#pairs_of + 2] = pairs_of, score, member
end

function Ledger.count(key, field)
  if not is_open then return redis.pcall('HINCRBY', key, field, 1) end
  local numbers = counted[key] or {}
  counted[key], numbers[field] = numbers, (numbers[field] or 0) + 1
end

local function write(command, kept)
  for key, told in pairs(kept) do
    for i = 1, #told, PORTION do
      redis.pcall(command, key, unpack(told, i, math.min(i + PORTION - 1, #told)))
    end
  end
end

-- Writes all that was kept; returns how many members each key got.
function Ledger.close()
  write('ZREM', removed)
  write('ZADD', added)
  for key, numbers in pairs(counted) do
    for field, number in pairs(numbers) do redis.pcall('HINCRBY', key, field, number) end
  end
  local grown = {}
  for key, told in pairs(added) do grown[key] = #told / 2 end
  is_open, removed, added, counted = false, {}, {}, {}
  return grown
end
