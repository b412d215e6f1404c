-- crons: cron entries by when they are due.
-- A clock that goes back by more was wrong before, as Debian's cron has it; by less, no run comes twice.
Crons.CORRECTION_US = 3 * 3600 * 1000000
local PORTION = 1000

-- When the first entry is due, behind so many; '' if none is: what is paused is due at +inf.
function Crons.next_due(behind)
  local first = redis.pcall('ZRANGE', P .. 'cron', int(behind), int(behind), 'WITHSCORES')
  local due = tonumber(first[2] or '')
  if due and not sound(due) and due < 0 then return '0' end -- see cron_due
  return sound(due) and int(due) or ''
end

-- Where that may be earlier than any master has been told of, they ask again.
function Crons.set_due(name, due)
  redis.call('ZADD', P .. 'cron', due, name)
  if due == '+inf' then return end
  for _, master in ipairs(redis.pcall('ZRANGE', P .. 'masters', 0, 99)) do
    redis.pcall('ZADD', P .. 'wake:master:' .. master, 0, 'command')
  end
end

-- Every entry's next run is reckoned from now on: by the tick for which it is due now, with no run to make.
function Crons.reckon_anew(now)
  local names, due = redis.pcall('ZRANGEBYSCORE', P .. 'cron', '(' .. int(now), '(+inf'), {}
  for i, name in ipairs(names) do due[2 * i - 1], due[2 * i] = int(now), name end
  for i = 1, #due, PORTION do
    redis.call('ZADD', P .. 'cron', unpack(due, i, math.min(i + PORTION - 1, #due)))
  end
end
