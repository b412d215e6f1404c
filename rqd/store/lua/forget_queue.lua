-- forget_queue: the name of a queue that holds nothing leaves the list of queues.
-- KEYS[1]  {ns}:queues
-- ARGV     queue
-- returns  1 if the name is not there any more, 0 if jobs, or records of ended ones, still are
-- Safe to send twice: the second finds it gone.
--@ names
local queue = ARGV[1]
local own = P .. 'queue:' .. queue
local refused = refusal({ KEYS[1], 'set', P .. 'nonempty', 'set' })
if refused then return refused end
if redis.call('EXISTS', own, own .. ':started', own .. ':scheduled', own .. ':deferred', own .. ':limited',
  own .. ':finished', own .. ':failed', own .. ':canceled') > 0 then return 0 end
redis.call('SREM', KEYS[1], queue)
redis.call('SREM', P .. 'nonempty', queue)
for _, index in ipairs({ 'finished', 'failed', 'canceled' }) do
  redis.call('DEL', P .. 'by-end:' .. index .. ':' .. queue)
end
redis.call('DEL', P .. 'stats:' .. queue, P .. 'wake:queue:' .. queue, P .. 'metrics:total:' .. queue,
  P .. 'metrics:functions:' .. queue)
return 1
