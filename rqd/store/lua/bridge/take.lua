-- take: moves ids from RQ's queues to the bridge's open jobs.
-- KEYS[1]  {ns}:queues
-- ARGV     the most ids to take; then the names of queues, in the order of precedence
-- returns  how many ids it has moved
-- Safe to send twice: each id that leaves RQ's list stands among the open jobs. An id that is open already
-- goes back to its list when that job has ended.
--@ names
local open, most, taken = P .. 'bridge:rq', sound(ARGV[1]), 0
if not most then return redis.error_reply("ERR these are none of this script's arguments") end
local refused = refusal({ open, 'hash' })
if refused then return refused end
local request = 'rq-' .. int(now_us())
for i = 2, #ARGV do
  local list = 'rq:queue:' .. ARGV[i]
  while taken < most and not is_foreign(list, 'list') do
    local id = redis.call('LINDEX', list, 0)
    if not id then break end
    local entry = { request = request, queue = ARGV[i], shown = '' }
    local known = redis.call('HGET', open, id)
    if known then
      local is_read, before = pcall(cjson.decode, known)
      if is_read and type(before) == 'table' then
        entry = before
        entry.again = ARGV[i]
      end
    end
    -- RQ makes ids of letters, digits, '_' and '-'. What is no text could never be shown to be refused.
    if not string.find(id, '[\128-\255]') then redis.call('HSET', open, id, cjson.encode(entry)) end
    -- Last: where there is no memory, the write before it is refused and this one would not be.
    redis.call('LPOP', list)
    taken = taken + 1
  end
end
return taken
