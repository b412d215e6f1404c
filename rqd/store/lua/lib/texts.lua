-- texts: what the client packs (wire.py), as it spends more on an argument than the server on a job. A
-- text has its length before it, and a list how many it has, in four bytes, big endian. What is none
-- raises an error, before a script's first write. A table that is made with all of its values, by
-- struct, costs a third of one that grows by them.
local number_before, format = nil, nil -- most are as long as the one before

-- A list's texts and, behind them, the place where they end.
local function unpacked(list)
  local number = struct.unpack('>I4', list)
  if number > #list / 4 then error('a list that is none') end
  if number ~= number_before then number_before, format = number, '>' .. string.rep('I4c0', number) end
  return struct.unpack(format, list, 5)
end

local function texts_in(list)
  local texts = { unpacked(list) }
  texts[#texts] = nil
  return texts
end
