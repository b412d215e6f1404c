-- names: the namespace's prefix, time and numbers. KEYS[1] is always '{namespace}:queues': one
-- declared key of the slot, from which every other key is computed.
local P = string.sub(KEYS[1], 1, -7)

-- Doubles are exact up to 2^53; Lua's own tostring would round microseconds to 14 digits.
local function int(number)
  return string.format('%.0f', number)
end

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A key of the wrong type must be found before the first write: Redis rolls nothing back.
local function is_type(key, wanted)
  local found = redis.call('TYPE', key)['ok']
  return found == wanted or found == 'none'
end
