-- names: the namespace's prefix, time and numbers. KEYS[1] is always '{namespace}:queues': one
-- declared key of the slot, from which every other key is computed.
local P = string.sub(KEYS[1], 1, -7)

-- Doubles are exact up to 2^53; Lua's own tostring would round microseconds to 14 digits. Most are the
-- same few times, and to format one takes a third of a call of Redis.
local texts = {}
local function int(number)
  local text = texts[number]
  if not text then
    -- With a fraction's digits to look for, it takes five times as long.
    text = string.format(math.abs(number) < 9007199254740992 and '%d' or '%.0f', number)
    texts[number] = text
  end
  return text
end

-- A number that somebody may have damaged: nil for what is none, is infinite, or is past 2^53.
local function sound(text)
  local number = tonumber(text)
  if number and math.abs(number) < 9007199254740992 then return number end
end

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function is_foreign(key, wanted)
  local found = redis.call('TYPE', key).ok
  return found ~= wanted and found ~= 'none'
end

-- Redis rolls nothing back: the keys of a namespace are looked at before a script's first write.
-- Takes key, type, key, type, ..; returns the error to answer with if one holds something else.
local function refusal(keys)
  for i = 1, #keys, 2 do
    if is_foreign(keys[i], keys[i + 1]) then
      return redis.error_reply('WRONGTYPE ' .. keys[i] .. " holds something that is not rqd's")
    end
  end
end
