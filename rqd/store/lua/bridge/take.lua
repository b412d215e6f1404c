-- take: moves ids from RQ's queues to the bridge's open jobs.
-- KEYS[1]  {ns}:queues
-- ARGV     for each queue: its name, and the most ids to take from it
-- returns  how many ids it has moved
-- Safe to send twice: each id that leaves RQ's list stands among the open jobs. An id that is open already
-- goes back to its list when that job has ended.
--@ names
local open, taken = P .. 'bridge:rq', 0
for i = 1, #ARGV, 2 do
  if not sound(ARGV[i + 1]) then return redis.error_reply("ERR these are none of this script's arguments") end
end
local refused = refusal({ open, 'hash' })
if refused then return refused end
local request = 'rq-' .. int(now_us())

local function open_again(id, queue)
  local is_read, before = pcall(cjson.decode, redis.call('HGET', open, id) or '')
  if not is_read or type(before) ~= 'table' then return { request = request, queue = queue, shown = '' } end
  before.again = queue
  return before
end

for i = 1, #ARGV, 2 do
  local queue, most = ARGV[i], sound(ARGV[i + 1])
  local list = 'rq:queue:' .. queue
  local ids = most > 0 and not is_foreign(list, 'list') and redis.call('LRANGE', list, 0, most - 1) or {}
  for _, id in ipairs(ids) do
    -- RQ makes ids of letters, digits, '_' and '-'. What is no text could never be shown to be refused.
    if not string.find(id, '[\128-\255]') then
      redis.call('HSET', open, id, cjson.encode(open_again(id, queue)))
    end
    -- Last: where there is no memory, the write before it is refused and this one would not be.
    redis.call('LPOP', list)
    taken = taken + 1
  end
end
return taken
