-- tell: what running jobs have told their master, where its token still holds the job.
-- KEYS[1]  {ns}:queues
-- ARGV     number of jobs, at most 100, then for each: id, token, progress ('' for none: a fraction, a
--          blank, a message), number of further fields of its hash and their values, those
-- returns  now in us
-- Safe to send twice: it sets.
--@ names arguments
local told = {}
for i = 1, take_count() do told[i] = { take(), take(), take(), take_fields() } end
local refused = garbled()
if refused then return refused end
local now = now_us()
for i = 1, math.min(#told, 100) do
  local id, token, progress, fields = unpack(told[i])
  local job = P .. 'job:' .. id
  if redis.pcall('HGET', job, 'lease') == token then
    if progress ~= '' then
      local fence = string.match(token, '^%d+')
      fields[#fields + 1] = 'progress'
      fields[#fields + 1] = fence .. ' ' .. int(now) .. ' ' .. progress
    end
    if fields[1] then redis.call('HSET', job, unpack(fields)) end
  end
end
return int(now)
