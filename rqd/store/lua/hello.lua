-- hello: a master takes its name, unless a live master has it.
-- KEYS[1]  {ns}:queues
-- ARGV     master, its boot id, the boot id of a master known to be dead ('' for none), time to live
--          of the row in s, then fields and values of its row
-- returns  {'ok', now us, the dead master's jobs ({id, losses, with whom})}, or {'taken', host, pid,
--          boot id, place}
-- Safe to send twice: the boot id tells a replay from another master.
--@ names ready terms unique limits ledger ending callbacks dependents groups reap
local master, boot, predecessor = ARGV[1], ARGV[2], ARGV[3]
local row = P .. 'master:' .. master
local row_ttl_s = sound(ARGV[4])
if not row_ttl_s or row_ttl_s < 1 or #ARGV % 2 == 1 then
  return redis.error_reply("ERR these are none of this script's arguments")
end
local refused = refusal({ row, 'hash', P .. 'masters', 'zset', P .. 'nonempty', 'set',
  P .. 'counters', 'hash', P .. 'leases', 'zset', P .. 'scheduled', 'zset' })
if refused then return refused end
local held = redis.call('HMGET', row, 'boot', 'host', 'pid', 'place', 'workers')
local now, reaped = now_us(), {}
Reap.clamp_heartbeats(now, row_ttl_s) -- as no master may be there that beats
if held[1] and held[1] ~= boot and held[1] ~= predecessor then
  return { 'taken', held[2] or '?', held[3] or '?', held[1], held[4] or '' }
end
local has_row = held[1] and held[1] == predecessor
-- Where its row is gone, others may have had the name since: its own leases are known by its boot id.
if predecessor ~= '' then reaped = Reap.of_master(master, now, not has_row and predecessor) end
if has_row then
  -- A name's workers are a thousand at most.
  for number = 1, math.min(sound(held[5]) or 0, 1000) do
    redis.call('DEL', P .. 'worker:' .. master .. ':' .. number)
  end
  redis.call('DEL', row, P .. 'turn:' .. master)
end
redis.call('DEL', P .. 'control:' .. master) -- needs no memory, as in a turn
redis.call('HSET', row, 'boot', boot, 'heartbeat', int(now), 'started', int(now), unpack(ARGV, 5))
redis.call('PEXPIRE', row, Ready.in_ms(row_ttl_s))
redis.call('ZADD', P .. 'masters', int(now), master)
return { 'ok', int(now), reaped }
