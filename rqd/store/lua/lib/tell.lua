-- tell: a command into a master's control list, and a marker that makes it look.
-- True if the master lives.
function Tell.master(master, command)
  if redis.call('EXISTS', P .. 'master:' .. master) == 0 then return false end
  local control = P .. 'control:' .. master
  if is_foreign(control, 'list') then redis.call('DEL', control) end
  redis.call('RPUSH', control, command)
  Tell.look(master)
  return true
end

-- Without the marker it is heard with the next beat.
function Tell.look(master)
  redis.pcall('ZADD', P .. 'wake:master:' .. master, 0, 'command')
end
