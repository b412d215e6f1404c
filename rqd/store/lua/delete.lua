-- delete: a job and all its records are gone; if it runs, its outcome will be refused.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, '1' to delete those that wait for it too, the only statuses to delete it in ('' for all)
-- returns  the status found, with another one it is there still; '' if there was no such job
-- Safe to send twice: the second finds nothing.
--@ names ready terms unique limits ledger ending callbacks dependents groups
local id = ARGV[1]
local refused = refusal({ P .. 'job:' .. id, 'hash' })
if refused then return refused end
local held = redis.call('HMGET', P .. 'job:' .. id, 'status', 'origin', 'terms')
local status, queue = held[1], held[2] or ''
if not status then return '' end
if (ARGV[3] or '') ~= '' and not string.find(' ' .. ARGV[3] .. ' ', ' ' .. status .. ' ', 1, true) then
  return status
end
refused = refusal({ P .. 'queue:' .. queue, 'zset', P .. 'nonempty', 'set', P .. 'leases', 'zset',
  P .. 'scheduled', 'zset', P .. 'queue:' .. queue .. ':scheduled', 'zset' })
if refused then return refused end
Limits.stop_waiting(id, queue, status)
if status == 'started' then
  Ending.drop_lease(id, queue, held[3], now_us())
elseif Ending.INDEX[status] then
  Ending.unlist(id, queue, status)
end
Ending.bury(id, now_us(), ARGV[2] == '1' and 'delete' or 'gone')
return status
