-- pause: queues whose jobs wait until somebody resumes them, or until a time. That is kept among the
-- due jobs, under a name that no job can have, so that masters need no other clock for it.
Pause.RESUME = ':resume:'

function Pause.open_all()
  redis.pcall('SUNIONSTORE', P .. 'nonempty', P .. 'nonempty', P .. 'suspended')
  redis.call('DEL', P .. 'suspended')
  -- As commands: their state is another from now on.
  for _, master in ipairs(redis.pcall('ZRANGE', P .. 'masters', 0, 99)) do
    redis.pcall('ZADD', P .. 'wake:master:' .. master, 0, 'command')
  end
end

-- True if it was paused.
function Pause.resume(queue)
  local was_paused = redis.pcall('ZREM', P .. 'paused', queue) == 1
  redis.call('ZREM', P .. 'scheduled', Pause.RESUME .. queue)
  if queue == Ready.ALL then
    Pause.open_all()
  elseif redis.call('EXISTS', P .. 'queue:' .. queue) == 1 then
    Ready.announce(queue)
  end
  return was_paused
end
