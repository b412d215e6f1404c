-- beat: a master says it lives: leases renewed, its rows refreshed, dead masters' leases reaped.
-- KEYS[1]  {ns}:queues
-- ARGV     master, its boot id, lease in us, time to live of the rows in s, id of the last command
--          obeyed; number of running jobs, then for each: id, token, number of its worker if its claim
--          had another, or ''; number of the master's fields and values, those; number of workers, then
--          for each: number, count of fields and values, those
-- returns  {now us, tokens of running jobs whose lease is lost, commands not yet obeyed, reaped jobs
--          ({id, losses, with whom}), when the next lease runs out that nobody renews ('' for none), 1
--          if another master has the name by now: nothing was done; 1 if the namespace is suspended,
--          when the first cron entry is due ('' for none), of each running job that somebody wants
--          stopped {token, by whom, grace in s}, when its last beat that Redis knows of was ('' for none)}
-- Safe to send twice: it sets, and commands stay until the next beat names them obeyed.
--@ names arguments ready pause terms unique limits ledger ending callbacks dependents groups reap mend crons
local master, boot, lease_us, row_ttl_s, obeyed = take(), take(), take_number(1), take_number(1), take()
local running, rows = {}, {}
for i = 1, take_count() do running[i] = { take(), take(), take() } end
local fields = take_fields()
for i = 1, take_count() do rows[i] = { P .. 'worker:' .. master .. ':' .. take(), take_fields() } end

local control = P .. 'control:' .. master
local refused = refusal({ KEYS[1], 'set', P .. 'counters', 'hash', P .. 'leases', 'zset',
  P .. 'masters', 'zset', P .. 'master:' .. master, 'hash',
  P .. 'nonempty', 'set', P .. 'scheduled', 'zset' }) or garbled()
if refused then return refused end
local now = now_us()
-- Silent for longer than its row lived, it was taken for dead, and its name was given away.
local owner = redis.call('HGET', P .. 'master:' .. master, 'boot')
if owner and owner ~= boot then return { int(now), {}, {}, {}, '', 1, 0, '', {}, '' } end
-- A first write that needs no memory, as in a turn: who lives is known, and obeys, if there is none left.
redis.call('ZREM', P .. 'masters', '')
local lost, stops, renewed = {}, {}, {}
for _, one in ipairs(running) do
  local id, token = one[1], one[2]
  local held = redis.pcall('HMGET', P .. 'job:' .. id, 'lease', 'stop')
  if held[1] == token then
    renewed[#renewed + 1], renewed[#renewed + 2] = int(now + lease_us), id
    if one[3] ~= '' then redis.call('HSET', P .. 'job:' .. id, 'worker', master .. ':' .. one[3]) end
    local by, grace_s = Ending.told_to_stop(held[2], token)
    if by then stops[#stops + 1] = { token, by, grace_s } end
  else
    lost[#lost + 1] = token
  end
end
for i = 1, #renewed, 1000 do
  redis.call('ZADD', P .. 'leases', unpack(renewed, i, math.min(i + 999, #renewed)))
end

local function write_row(key, fields)
  -- A worker's row and the list of commands are the master's own: what else is there makes room.
  if is_foreign(key, 'hash') then redis.call('DEL', key) end
  redis.call('HSET', key, 'heartbeat', int(now), unpack(fields))
  redis.call('PEXPIRE', key, Ready.in_ms(row_ttl_s))
end

-- Since when its job runs stands in a worker's row from the claim on; not in one that had expired, as after
-- a leap of the clock or an outage, and is written anew.
local function write_since(key, fields)
  local job = ''
  for i = 1, #fields, 2 do
    if fields[i] == 'job' then job = fields[i + 1] end
  end
  if job == '' or redis.call('HEXISTS', key, 'since') == 1 then return end
  local started_at = redis.pcall('HGET', P .. 'job:' .. job, 'started_at')
  if type(started_at) == 'string' then redis.call('HSET', key, 'since', started_at) end
end

write_row(P .. 'master:' .. master, fields)
for _, row in ipairs(rows) do
  write_row(row[1], row[2])
  write_since(row[1], row[2])
end
if is_foreign(control, 'list') then redis.call('DEL', control) end
local last = sound(redis.call('ZSCORE', P .. 'masters', master))
redis.call('ZADD', P .. 'masters', int(now), master)
Reap.clamp_heartbeats(now, row_ttl_s)
local may, reap_after, back_us = Reap.may_reap(now, lease_us)
if back_us > Crons.CORRECTION_US then Crons.reckon_anew(now) end
-- A dead master's rows vanish by their time to live; its name and control list go here. Not as soon as
-- the clock has made a leap: the commands of those that live would go, too.
local silent_since = int(now - row_ttl_s * 1000000)
local dead = may and redis.call('ZRANGEBYSCORE', P .. 'masters', '-inf', silent_since, 'LIMIT', 0, 10) or {}
for _, name in ipairs(dead) do
  redis.call('ZREM', P .. 'masters', name)
  redis.call('DEL', P .. 'control:' .. name, P .. 'wake:master:' .. name)
end

-- What is no command would stand before the commands for ever: it goes with those that were obeyed.
local waiting, commands = redis.call('LRANGE', control, 0, 199), {}
for _, command in ipairs(waiting) do
  local is_json, told = pcall(cjson.decode, command)
  local id = is_json and type(told) == 'table' and told.id
  if id == obeyed then
    commands = {}
  elseif type(id) == 'string' and string.find(id, '^[!-~]+$') then
    commands[#commands + 1] = command
  end
end
if #commands < #waiting then
  redis.call('LTRIM', control, #waiting, -1)
  for i = #commands, 1, -1 do redis.call('LPUSH', control, commands[i]) end
end

Reap.clamp_leases(now, lease_us)
local reaped = {}
if may then reaped = Reap.expired(now, 100) end
local has_told_all = Dependents.catch_up(now)
Mend.groups(now)
Mend.pauses()
Ending.forget_expired(P .. 'groups', now, 100)

-- Endings clear their own queue's index; this reaches the queues where nothing ends any more.
for _, queue in ipairs(redis.call('SRANDMEMBER', KEYS[1], 10)) do
  for _, index in ipairs(Ending.INDEXES) do
    Ending.forget_of_queue(queue, index, now, 100)
    Mend.ended(queue, index, now)
  end
  Mend.queue(queue, now, lease_us)
  -- Before all were told, a parent may be gone and nevertheless have finished.
  if has_told_all then Mend.deferred(queue, now) end
  Mend.limited(queue)
end
Mend.limits(now)

local first = redis.call('ZRANGE', P .. 'leases', 0, 0, 'WITHSCORES')
local next_expiry = first[2] and int(math.max(tonumber(first[2]), reap_after)) or ''
local is_suspended = type(redis.pcall('ZSCORE', P .. 'paused', Ready.ALL)) == 'string'
local next_cron = Crons.next_due(0)
return { int(now), lost, commands, reaped, next_expiry, 0, is_suspended and 1 or 0, next_cron, stops,
  last and int(last) or '' }
