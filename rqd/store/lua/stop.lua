-- stop: the master that runs a job is told to stop it. The order stands in the job's record, from where a
-- beat brings it, at once by the marker; should that master be lost, the job does not run again.
-- KEYS[1]  {ns}:queues
-- ARGV     job id, request id, by whom, seconds from the exception in the job to the kill
-- returns  the status found: started (told now), any other (nothing was done), '' (no such job)
-- Safe to send twice: the job remembers the request, which was about one attempt.
--@ names tell
local id, request, by, grace_s = ARGV[1], ARGV[2], ARGV[3], sound(ARGV[4])
local job = P .. 'job:' .. id
local refused = refusal({ job, 'hash' })
if refused then return refused end
if not grace_s or not string.find(request, '^%S+$') then return redis.error_reply("ERR these are none of this script's arguments") end
local held = redis.call('HMGET', job, 'status', 'lease', 'worker', 'stop')
if held[4] and string.match(held[4], '^%S+ (%S+)') == request then return 'started' end
if held[1] ~= 'started' or (held[2] or '') == '' then return held[1] or '' end
local told = { held[2], request, string.format('%.6f', grace_s), by }
redis.call('HSET', job, 'stop', table.concat(told, ' '))
local master = string.match(held[3] or '', '^(.+):%d+$')
if master and redis.call('EXISTS', P .. 'master:' .. master) == 1 then Tell.look(master) end
return 'started'
