-- write: shows RQ what has become of an open job of the bridge's; closes the job at its end.
-- KEYS[1]  {ns}:queues
-- ARGV     job id; request of its taking; what RQ is shown by this; how the job has ended: '' (it has not),
--          finished, failed, stopped, canceled, 'gone' (RQ's record goes too) or 'dropped' (RQ's record stays
--          as it is); seconds that RQ's record stays, -1 for ever; the member of RQ's registry of started jobs,
--          '' for none; how many texts follow for RQ's record, as names and values; these; the names and values
--          of the entry for RQ's results
-- returns  1, or 0 if the job is closed or was taken again
-- Safe to send twice: a job that shows this already, or is closed, stays as it is.
--@ names
local open, id, ending, ttl, count = P .. 'bridge:rq', ARGV[1], ARGV[4], sound(ARGV[5]), sound(ARGV[7])
if not ttl or not count then return redis.error_reply("ERR these are none of this script's arguments") end
local refused = refusal({ open, 'hash' })
if refused then return refused end
local is_read, entry = pcall(cjson.decode, redis.call('HGET', open, id) or '')
if not is_read or type(entry) ~= 'table' or entry.request ~= ARGV[2] then return 0 end
if ending == '' and entry.shown == ARGV[3] then return 1 end

local queue = entry.queue
local job, results, wip = 'rq:job:' .. id, 'rq:results:' .. id, 'rq:wip:' .. queue
local registry = ({ finished = 'finished', failed = 'failed', stopped = 'failed', canceled = 'canceled' })[ending]
local list = entry.again and 'rq:queue:' .. entry.again
local has_job = redis.call('TYPE', job).ok == 'hash'
-- What somebody else has put in the place of a key of RQ's is left alone: no other job waits for it.
local has_wip, has_results = not is_foreign(wip, 'zset'), not is_foreign(results, 'stream')

-- The job is closed last, behind all writes that a server without memory refuses.
local function has_ended(is_kept)
  if list and has_job and is_kept and not is_foreign(list, 'list') then
    redis.call('HSET', job, 'status', 'queued')
    redis.call('PERSIST', job)
    redis.call('RPUSH', list, id)
  end
  if not is_kept then redis.call('DEL', job, results) end
  if entry.wip and has_wip then redis.call('ZREM', wip, entry.wip) end
  redis.call('HDEL', open, id)
  return 1
end

if ending == 'gone' then return has_ended(false) end
if ending == 'dropped' or not has_job then return has_ended(true) end
for i = 8, 7 + count, 2 do redis.call('HSET', job, ARGV[i], ARGV[i + 1]) end
if ending == '' then
  redis.call('PERSIST', job)
  if entry.wip and has_wip then redis.call('ZREM', wip, entry.wip) end
  entry.shown, entry.wip = ARGV[3], nil
  if ARGV[6] ~= '' and has_wip then
    entry.wip = ARGV[6]
    -- Not before its end: RQ's own cleanup would take it for the job of a worker that died.
    redis.call('ZADD', wip, '+inf', entry.wip)
  end
  redis.call('HSET', open, id, cjson.encode(entry))
  return 1
end

if ending == 'finished' and ttl == 0 and not list then return has_ended(false) end
local now_s = math.floor(now_us() / 1000000)
if #ARGV > 7 + count and has_results then
  redis.call('XADD', results, 'MAXLEN', 10, '*', unpack(ARGV, 8 + count))
  if ttl < 0 then redis.call('PERSIST', results) else redis.call('EXPIRE', results, int(ttl)) end
end
local score = int(now_s + ttl)
-- As RQ: what finished for ever has the score inf, what failed for ever -1.
if ttl < 0 then score = ending == 'finished' and '+inf' or '-1' end
if ending == 'canceled' then score = int(now_s) end
local index = 'rq:' .. registry .. ':' .. queue
if not is_foreign(index, 'zset') then redis.call('ZADD', index, score, id) end
if ending ~= 'canceled' and ttl >= 0 and not list then redis.call('EXPIRE', job, int(ttl)) end
return has_ended(true)
