-- turn: a master's one round trip: settles what ended, promotes what is due, claims for free workers.
-- KEYS[1]  {ns}:queues
-- ARGV     request id, master, lease in us, '1' to write the master's own wake marker if a worker
--          stays free; packed together (texts.lua), three texts: of each settle a list of job id, token,
--          worker, decision (finish | repeat | fail | retry | put_back | park | lose | stop), delay in us,
--          staged result's name, and further fields with their values; of each free worker number, pid
--          of its waiting process or 0, and of those that take a job behind the one they have number,
--          ''; numbers of workers that have a job. The name of the precedence of queues ('' without free
--          workers), and behind it, with a space between them, its order and the order's state if it
--          is not strict (lib/orders.lua); number of its queues (0 if it was told before), those in
--          order, each with its weight and a space before it if the order is weighted
-- returns  Claim.answer of {now us, verdicts, claims, next due us or '' and, where jobs failed at their
--          claim, of each {id, queue, cause}};
--          an error before anything is settled or claimed if a staged result is gone: stage it and send
--          again; or
--          NOPRECEDENCE if the precedence is not known (any more): send again with its queues
-- Safe to send twice: the answer's verdicts, claimed ids and failed jobs are kept under turn:<master>
-- with the request id; a replay returns verdicts and failed jobs, and the claims it still holds.
--@ names texts arguments ready pause terms unique limits ledger ending callbacks dependents groups reap settle claim orders
local PRECEDENCE_S = 3600
-- Decisions after which the attempt counts neither as done nor as failed.
local STAYS = { put_back = true, park = true, lose = true, stop = true }
local request, master, lease_us, nudge = take(), take(), take_number(1), take() == '1'
local settled, offered, occupied = struct.unpack('>I4c0I4c0I4c0', take())
local settles, workers, free, busy = {}, {}, 0, {}
local from = 1
while from <= #settled do
  local told
  told, from = struct.unpack('>I4c0', settled, from)
  local one = Settle.read(unpacked(told))
  if not one then is_garbled = true end
  settles[#settles + 1] = one
end
from = 1
while from <= #offered do
  local number, pid
  number, pid, from = struct.unpack('>I4c0I4c0', offered, from)
  if not string.find(number, '^%d+$') then is_garbled = true end
  workers[#workers + 1] = { number = number, pid = pid ~= '' and pid }
  if pid ~= '' then free = free + 1 end
end
from = 1
while from <= #occupied do
  local number
  number, from = struct.unpack('>I4c0', occupied, from)
  busy[number] = true
end
local precedence, ranked = take(), {}
local order, state = nil, nil
if string.find(precedence, ' ', 1, true) then
  precedence, order, state = string.match(precedence, '^(%S*) (%S*) ?(%S*)')
end
precedence = P .. 'precedence:' .. precedence
for i = 1, take_count() do
  local rank, queue = i, take()
  if order == 'weighted' then
    local weight, name = string.match(queue, '^(%d+) (.+)$')
    rank, queue = i + math.min(sound(weight) or 1, 4095) / 4096, name or queue
  end
  ranked[2 * i - 1], ranked[2 * i] = rank, queue
end

-- The last turn as it was kept behind its request, if that is this one: its verdicts and its claims, of
-- each {id, token, queue, worker}; nil if somebody wrote something else there.
local function remembered(memo)
  if type(memo) ~= 'string' or string.sub(memo, 1, #request + 1) ~= request .. ' ' then return nil end
  local is_whole, kept = pcall(cmsgpack.unpack, string.sub(memo, #request + 2))
  if is_whole and type(kept) == 'table' and type(kept.verdicts) == 'table'
    and type(kept.claims) == 'table' then return kept end
end

local memo_key = P .. 'turn:' .. master
local refused = refusal({ P .. 'nonempty', 'set', P .. 'counters', 'hash', P .. 'leases', 'zset',
  P .. 'scheduled', 'zset', precedence, 'zset' }) or garbled()
if refused then return refused end
if ranked[1] then
  -- Named by its content: whoever wrote it wrote the same. To delete it needs no memory: see below.
  redis.call('DEL', precedence)
  for i = 1, #ranked, 1000 do
    redis.call('ZADD', precedence, unpack(ranked, i, math.min(i + 999, #ranked)))
  end
  redis.call('EXPIRE', precedence, PRECEDENCE_S)
elseif workers[1] and redis.call('EXISTS', precedence) == 0 then
  return redis.error_reply('NOPRECEDENCE tell the queues again')
end
local now = now_us()
local memo = remembered(redis.pcall('GET', memo_key))
local verdicts, claims, next_due, aside = {}, {}, nil, nil

if memo then
  verdicts, aside = memo.verdicts, memo.aside
  for _, one in ipairs(memo.claims) do
    local id, token, queue, worker = unpack(one)
    local job = redis.pcall('HMGET', P .. 'job:' .. id, 'lease', 'func_name', 'payload',
      'serializer', 'timeout', 'retries_left', 'retries_used', 'retry_intervals', 'attempt', 'losses',
      'signature', 'terms', 'tally', 'enqueued_at', 'back_at', 'started_at')
    if job[1] == token
      and Claim.is_usable(job[2], job[4], job[5], job[6], job[7], job[9], job[10]) then
      claims[#claims + 1] = { id, token, job[9] or '0', queue, worker, job[2],
        job[3] or false, job[4], job[5], job[6] or '0', job[7] or '0', job[8] or '',
        job[10] or '0', job[12] or '', Claim.waited_ms(job[14], job[15], sound(job[16]) or now) }
      Claim.add_rest(claims[#claims], job[11], job[13])
    end
  end
  next_due = Claim.next_due_time()
else
  for _, one in ipairs(settles) do
    if one.staged ~= '' and redis.call('EXISTS', P .. 'staged:' .. one.staged) == 0 then
      return redis.error_reply('ERR the staged result of job ' .. one.id .. ' is gone: send it again')
    end
  end
  -- Whether there is memory Redis asks at a script's first write, if that needs some. By one that needs
  -- none, what has ended is recorded however little is left; the memo is written anew below.
  if settles[1] then redis.call('DEL', memo_key) end
  Ledger.open()
  for i, one in ipairs(settles) do
    verdicts[i] = Settle.attempt(one, now)
    local is_over = not STAYS[one.decision] and Settle.field_of(one.fields, 'run_again_for') ~= 'asked'
    if verdicts[i] == 'abandoned' or (verdicts[i] == 'settled' and is_over) then
      local row = P .. 'worker:' .. master .. ':' .. one.worker
      local is_good = one.decision == 'finish' or one.decision == 'repeat'
      Ledger.count(row, is_good and 'done' or 'failed')
      local why = Settle.cause_of(one.fields)
      if why then redis.pcall('HSET', row, 'last_error', why) end
    end
  end
  Ending.close_ledger(now) -- what is claimed now is leased anew
  next_due = Claim.promote_and_look(now)
  local by = { master = master, nonce = request, lease_us = lease_us }
  if order and workers[1] then
    claims = Orders.for_workers(workers, precedence, by, now, order, state)
  else
    claims = Claim.for_workers(workers, precedence, by, now)
  end
  aside = by.aside
  local kept = { verdicts = verdicts, claims = {}, aside = aside }
  for i, one in ipairs(claims) do
    kept.claims[i] = { one[1], one[2], one[4], one[5] }
    busy[one[5]] = true
  end
  for _, one in ipairs(settles) do
    if not busy[one.worker] then
      Claim.write_worker(master, one.worker, lease_us, 'state', 'idle', 'job', '', 'func_name', '',
        'queue', '', 'since', int(now))
    end
  end
  if settles[1] or claims[1] or aside then
    redis.call('SET', memo_key, request .. ' ' .. cmsgpack.pack(kept), 'EX', 3600)
  end
end

-- The waiter is listening for the master's own marker only; a worker is free, so it shall listen
-- for the queues' markers too.
if nudge and #claims < free then Ready.wake('master:' .. master) end
return Claim.answer(claims, { int(now), verdicts, claims, next_due, aside })
