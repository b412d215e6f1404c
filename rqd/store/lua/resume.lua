-- resume: a paused queue's jobs can be claimed again; with {all}, those of every queue.
-- KEYS[1]  {ns}:queues
-- ARGV     queue or {all}
-- returns  1 if it was paused, else 0
-- Safe to send twice: the second finds it resumed.
--@ names ready pause
local refused = refusal({ P .. 'paused', 'zset', P .. 'nonempty', 'set', P .. 'suspended', 'set',
  P .. 'scheduled', 'zset', P .. 'masters', 'zset' })
if refused then return refused end
return Pause.resume(ARGV[1]) and 1 or 0
