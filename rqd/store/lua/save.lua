-- save: a job that was made and not enqueued yet is kept. It is in no queue and in no index.
-- KEYS[1]  {ns}:queues
-- ARGV     request id; a template and a job, each packed as for an enqueue; seconds that the record stays
-- returns  the status found: '' for no job, created (replaced now), any other (refused); or 'unstaged'
-- Safe to send twice: it sets.
-- An enqueue of the same id takes its place, as that of an ended job; so older masters need not know it.
--@ names texts
local queue, _, priority, _, ttl, packed_fields = struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0', ARGV[2])
local id, _, staged, size, payload, description, more = struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0I4c0', ARGV[3])
local job, kept_s = P .. 'job:' .. id, sound(ARGV[4])
local fields = texts_in(packed_fields)
if more ~= '' then
  for _, text in ipairs(texts_in(more)) do fields[#fields + 1] = text end
end
if #fields % 2 == 1 or not kept_s or kept_s < 1 then
  return redis.error_reply("ERR these are none of this script's arguments")
end
local refused = refusal({ job, 'hash' })
if refused then return refused end
local held = redis.call('HMGET', job, 'status', 'created_at', 'dependents', 'request')
local status, created_at, is_awaited, request = held[1], held[2], held[3], held[4]
if status and status ~= 'created' then return status end
if staged ~= '' and redis.call('EXISTS', P .. 'staged:' .. staged) == 0 then
  -- This sending's payload is already here, or it is gone.
  return request == ARGV[1] and 'created' or 'unstaged'
end
redis.call('DEL', job, job .. ':payload')
if staged == '' then
  fields[#fields + 1], fields[#fields + 2] = 'payload', payload
else
  redis.call('RENAME', P .. 'staged:' .. staged, job .. ':payload')
  for _, text in ipairs({ 'beside', 1, 'payload_bytes', size }) do fields[#fields + 1] = text end
end
if ttl ~= '' then fields[#fields + 1], fields[#fields + 2] = 'ttl', ttl end
if is_awaited then fields[#fields + 1], fields[#fields + 2] = 'dependents', is_awaited end
redis.call('HSET', job, 'description', description, 'origin', queue, 'status', 'created', 'priority', priority,
  'created_at', created_at or int(now_us()), 'request', ARGV[1], unpack(fields))
for _, key in ipairs({ job, job .. ':payload' }) do
  -- Who waits for it would wait for good if it expired.
  if is_awaited then redis.call('PERSIST', key) else redis.call('EXPIRE', key, int(kept_s)) end
end
return status or ''
