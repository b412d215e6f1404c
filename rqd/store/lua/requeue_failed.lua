-- requeue_failed: of a queue's failed jobs those that are meant run again, some hundred a call.
-- KEYS[1]  {ns}:queues
-- ARGV     queue, cursor ('0' to begin), function with * for any text ('' for all), what its cause
--          contains ('' for all), the earliest and latest end in us, '1' to look only
-- returns  {next cursor, '0' at the end; how many jobs were looked at; ids of those that are meant}
-- Safe to send twice: what the first sending requeued has not failed any more.
--@ names arguments ready terms unique limits ledger ending callbacks dependents groups requeue
local queue, cursor, func_name, cause = take(), take(), take(), take()
local earliest, latest, looks_only = take_number(0), take_number(0), take() == '1'
local index = P .. 'queue:' .. queue .. ':failed'
if not string.find(cursor, '^%d+$') then is_garbled = true end
local refused = garbled() or refusal({ index, 'zset', P .. 'queue:' .. queue, 'zset',
  P .. 'nonempty', 'set', P .. 'counters', 'hash' })
if refused then return refused end
local pattern = func_name
for _, step in ipairs({ { '[^%w*]', '%%%0' }, { '%*', '.*' } }) do
  pattern = string.gsub(pattern, step[1], step[2])
end
pattern = '^' .. pattern .. '$'

-- A stopped job was meant to end: it is only meant here if its cause says so.
local function is_meant(status, ended_at, name, why)
  local at = sound(ended_at) or 0
  if at < earliest or at > latest then return false end
  if status ~= 'failed' and (status ~= 'stopped' or cause == '') then return false end
  return (func_name == '' or string.find(name or '', pattern) ~= nil)
    and (cause == '' or string.find(why or '', cause, 1, true) ~= nil)
end

local now = now_us()
local found, meant = redis.call('ZSCAN', index, cursor, 'COUNT', 100), {}
for i = 1, #found[2], 2 do
  local id = found[2][i]
  local held = redis.pcall('HMGET', P .. 'job:' .. id, 'status', 'ended_at', 'func_name', 'cause', 'origin')
  if not held.err and held[5] == queue and is_meant(held[1], held[2], held[3], held[4]) then
    meant[#meant + 1] = { id = id, at = sound(held[2]) or 0 }
  end
end
table.sort(meant, function(a, b) return a.at < b.at end)
local ids = {}
for _, one in ipairs(meant) do
  local held = looks_only or redis.call('HMGET', P .. 'job:' .. one.id, unpack(Requeue.AGAIN_FIELDS))
  local status = looks_only or Requeue.run_again(one.id, held, false, now)
  if looks_only or Requeue.ENDED_BADLY[status] then ids[#ids + 1] = one.id end
end
return { found[1], #found[2] / 2, ids }
