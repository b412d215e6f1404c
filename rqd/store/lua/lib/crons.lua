-- crons: cron entries by when they are due.
-- When the first entry from `low` on is due; '' if none is: what is paused is due at +inf.
function Crons.next_due(low)
  local first = redis.pcall('ZRANGEBYSCORE', P .. 'cron', low, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return sound(first[2]) and int(tonumber(first[2])) or ''
end

-- Where that may be earlier than any master has been told of, they ask again.
function Crons.set_due(name, due)
  redis.call('ZADD', P .. 'cron', due, name)
  if due == '+inf' then return end
  for _, master in ipairs(redis.pcall('ZRANGE', P .. 'masters', 0, 99)) do
    redis.pcall('ZADD', P .. 'wake:master:' .. master, 0, 'command')
  end
end
