-- write_updates: progress, meta and output of running jobs, where its token still holds the job.
-- KEYS[1]  {ns}:queues
-- ARGV     number of jobs, at most 100, then for each: id, token, progress ('' for none: a fraction, a
--          blank, a message), at which byte of its output a piece of it begins ('' for none), the
--          piece, number of further fields of its hash and their values, those
-- returns  now in us
-- Safe to send twice: it sets.
--@ names arguments
local OUTPUT_PIECES, OUTPUT_S = 16, 60

local function publish(key, fence, from, piece)
  if is_foreign(key, 'stream') then redis.call('DEL', key) end
  redis.call('XADD', key, 'MAXLEN', OUTPUT_PIECES, '*', 'fence', fence, 'from', from, 'piece', piece)
  redis.call('EXPIRE', key, OUTPUT_S)
end

local jobs = {}
for i = 1, take_count() do jobs[i] = { take(), take(), take(), take(), take(), take_fields() } end
local refused = garbled()
if refused then return refused end
local now = now_us()
-- A first write that needs no memory, as in a turn: the outcomes of those that jobs something wait for it.
redis.call('ZREM', P .. 'leases', '')
for i = 1, math.min(#jobs, 100) do
  local id, token, progress, from, piece, fields = unpack(jobs[i])
  local job = P .. 'job:' .. id
  if redis.pcall('HGET', job, 'lease') == token then
    local fence = string.match(token, '^%d+')
    if from ~= '' then publish(job .. ':output', fence, from, piece) end
    if progress ~= '' then
      fields[#fields + 1] = 'progress'
      fields[#fields + 1] = fence .. ' ' .. int(now) .. ' ' .. progress
    end
    if fields[1] then redis.call('HSET', job, unpack(fields)) end
  end
end
return int(now)
