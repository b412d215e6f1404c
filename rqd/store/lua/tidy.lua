-- tidy: ids whose records have expired leave a queue's index of ended jobs, at most 100 a call.
-- KEYS[1]  {ns}:queues
-- ARGV     queue, index: finished, failed or canceled
-- returns  how many left it; call again until none does
-- Safe to send twice: it takes out what is no more.
--@ names ready terms unique limits ledger ending callbacks dependents groups
local refused = refusal({ P .. 'queue:' .. ARGV[1] .. ':' .. ARGV[2], 'zset' })
if refused then return refused end
return Ending.forget_of_queue(ARGV[1], ARGV[2], now_us(), 100)
