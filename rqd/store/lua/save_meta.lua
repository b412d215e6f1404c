-- save_meta: the user's notes on a job, replaced.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, the serialized meta, its signature if it has one
-- returns  1, or 0 if there is no such job
-- Safe to send twice: it sets.
--@ names
local job = P .. 'job:' .. ARGV[1]
local refused = refusal({ job, 'hash' })
if refused then return refused end
if redis.call('HEXISTS', job, 'status') == 0 then return 0 end
redis.call('HSET', job, 'meta', ARGV[2])
if ARGV[3] then redis.call('HSET', job, 'meta_signature', ARGV[3]) end
return 1
