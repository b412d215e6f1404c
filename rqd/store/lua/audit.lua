-- audit: notes an operator's action in the audit stream.
-- KEYS[1]  {ns}:queues
-- ARGV     request id, most entries to keep, who, action, target, result
-- returns  1
-- Safe to send twice: the second finds the request among the latest entries.
--@ names
local audit, most = P .. 'audit', sound(ARGV[2])
if not most or most < 1 or #ARGV ~= 6 then
  return redis.error_reply("ERR these are none of this script's arguments")
end
local refused = refusal({ audit, 'stream' })
if refused then return refused end
for _, entry in ipairs(redis.call('XREVRANGE', audit, '+', '-', 'COUNT', 50)) do
  if entry[2][2] == ARGV[1] then return 1 end
end
redis.call('XADD', audit, 'MAXLEN', '~', int(most), '*', 'request', ARGV[1], 'who', ARGV[3],
  'action', ARGV[4], 'target', ARGV[5], 'result', ARGV[6])
return 1
