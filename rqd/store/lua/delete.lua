-- delete: a job and all its records are gone; if it runs, its outcome will be refused.
-- KEYS[1]  {ns}:queues
-- ARGV     job id
-- returns  the status found, '' if there was no such job
-- Safe to send twice: the second finds nothing.
--@ names ready ending
local id = ARGV[1]
local held = redis.call('HMGET', P .. 'job:' .. id, 'status', 'origin')
local status = held[1]
if not status then return '' end
if status == 'queued' then
  leave_ready(id, held[2])
elseif status == 'scheduled' then
  unschedule(id, held[2])
elseif status == 'started' then
  drop_lease(id, held[2])
elseif INDEX[status] then
  redis.call('ZREM', P .. 'queue:' .. held[2] .. ':' .. INDEX[status], id)
end
bury(id)
redis.call('DEL', P .. 'job:' .. id .. ':results')
return status
