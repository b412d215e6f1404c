-- crons: cron entries by when they are due.
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
