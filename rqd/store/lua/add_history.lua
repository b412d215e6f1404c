-- add_history: a master adds up what has become of attempts, by queue and by function.
-- KEYS[1]  {ns}:queues
-- ARGV     request id, master, number of queues, then for each: name; number of functions, those; number
--          of fields and values, those: names as in model/history.py, a field of a function names it by
--          its number among the functions, behind a second blank
-- returns  now in us
-- Safe to send twice: the last request of each master is kept, and a replay adds nothing.
--@ names arguments
local MOST_FUNCTIONS, OTHER = 200, '_other'
local MINUTES_S, HOURS_S, FUNCTIONS_S, REPLAY_S = 48 * 3600, 90 * 86400, 7 * 86400, 3600
local ALL = '{all}'
local request, master, queues = take(), take(), {}
for i = 1, take_count() do
  local queue = { name = take(), functions = {} }
  for f = 1, take_count() do queue.functions[f] = take() end
  queue.fields = take_fields()
  for f = 2, #queue.fields, 2 do
    local number = sound(queue.fields[f])
    if not number or number < 1 then is_garbled = true end
  end
  queues[i] = queue
end
local last = P .. 'history-request:' .. master
local refused = refusal({ KEYS[1], 'set' }) or garbled()
if refused then return refused end
local now = now_us()
if redis.pcall('GET', last) == request then return int(now) end
redis.call('SET', last, request, 'EX', REPLAY_S)

-- Named functions of a queue stay named; when there are too many, each further one is another.
local function labels(queue)
  local key, found = P .. 'metrics:functions:' .. queue.name, {}
  if is_foreign(key, 'set') then redis.call('DEL', key) end
  for i, name in ipairs(queue.functions) do
    if redis.call('SISMEMBER', key, name) == 1 then
      found[i] = name
    elseif redis.call('SCARD', key) < MOST_FUNCTIONS then
      redis.call('SADD', key, name)
      found[i] = name
    else
      found[i] = OTHER
    end
  end
  return found
end

local function add(key, fields, ttl_s)
  if is_foreign(key, 'hash') then redis.call('DEL', key) end
  for i = 1, #fields, 2 do
    -- A number that was overwritten by somebody, or is as large as can be, begins again.
    local added = redis.pcall('HINCRBY', key, fields[i], fields[i + 1])
    if type(added) == 'table' then redis.call('HSET', key, fields[i], fields[i + 1]) end
  end
  if ttl_s then redis.call('EXPIRE', key, ttl_s) end
end

local minute, hour = int(math.floor(now / 60000000)), int(math.floor(now / 3600000000))
local function add_over_time(name, own)
  if not own[1] then return end
  add(P .. 'history:minute:' .. minute .. ':' .. name, own, MINUTES_S)
  add(P .. 'history:hour:' .. hour .. ':' .. name, own, HOURS_S)
end

for _, queue in ipairs(queues) do
  -- A queue that was deleted meanwhile stays deleted.
  if redis.call('SISMEMBER', KEYS[1], queue.name) == 1 then
    local names, own, of_functions = labels(queue), {}, {}
    for i = 1, #queue.fields, 2 do
      local field, value = queue.fields[i], queue.fields[i + 1]
      local what, number = string.match(field, '^(%S+ %S+) (%d+)$')
      if what then
        field = what .. ' ' .. (names[tonumber(number)] or OTHER)
        of_functions[#of_functions + 1], of_functions[#of_functions + 2] = field, value
      else
        own[#own + 1], own[#own + 2] = field, value
      end
    end
    add_over_time(queue.name, own)
    add_over_time(ALL, own)
    if of_functions[1] then
      add(P .. 'history:functions:' .. hour .. ':' .. queue.name, of_functions, FUNCTIONS_S)
    end
    add(P .. 'metrics:total:' .. queue.name, own)
    add(P .. 'metrics:total:' .. queue.name, of_functions)
  end
end
return int(now)
