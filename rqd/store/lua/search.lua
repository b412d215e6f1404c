-- search: looks at some hundred ids of an index of a queue, in its order, for the jobs that match.
-- KEYS[1]  {ns}:queues
-- ARGV     queue, index ('' for the ready jobs), '1' from its lowest score on ('' from its highest);
--          score and id behind which to begin ('', '' for the start), the most ids to look at, the
--          most jobs to find; what to return (jobs, groups or count); the number of conditions, each
--          as field, test and text; a number of texts: the fields to return of a job, or for groups
--          the beginnings of causes
-- returns  {ids in the index, ids up to where it has come, '1' at the end, score and id there, found}
--          found: of jobs, for each its score, id and fields; of groups, for each the number of its
--          cause's beginning (0: none), function, frame, count, first and last end, id and cause of
--          the last one; else how many match
-- Safe to send twice: it writes nothing.
--@ names arguments
local MOST_CHARS = 512
local queue, index, is_upward = take(), take(), take() == '1'
local from_score, from_id = take(), take()
local most_ids, most_found, what = take_number(1), take_number(1), take()
local conditions = {}
for i = 1, take_count() do conditions[i] = { field = take(), test = take(), text = take() } end
local texts = {}
for i = 1, take_count() do texts[i] = take() end
local key = P .. 'queue:' .. queue .. (index ~= '' and ':' .. index or '')

-- By bytes, as Redis orders members of the same score: Lua's own goes by the server's language.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function between(first, last)
  if is_upward then return redis.call('ZRANGE', key, first, last, 'WITHSCORES') end
  return redis.call('ZRANGE', key, first, last, 'REV', 'WITHSCORES')
end

-- How many ids stand before the place, which may be the place of one that has left: those that stay keep
-- their order, whatever comes and goes.
local function rank_behind(score, id, count)
  local low, high = 0, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = between(middle, middle)
    local at = tonumber(found[2])
    local is_behind
    if at ~= score then is_behind = (at > score) == is_upward
    elseif is_upward then is_behind = is_before(id, found[1])
    else is_behind = is_before(found[1], id) end
    if is_behind then high = middle else low = middle + 1 end
  end
  return low
end

local function words_of(text)
  local words = {}
  for word in string.gmatch(text, '%S+') do words[word] = true end
  return words
end

local function pieces_of(glob)
  local pieces = {}
  for piece in string.gmatch(glob .. '*', '([^*]*)%*') do pieces[#pieces + 1] = piece end
  return pieces
end

local TESTS, PREPARE = {}, {}

PREPARE.among = words_of
function TESTS.among(text, words) return words[text] ~= nil end

-- `*` is for any text. A pattern of Lua's would try all ways to share out a long name.
PREPARE.like = pieces_of
function TESTS.like(text, pieces)
  local first, last = pieces[1], pieces[#pieces]
  if #pieces == 1 then return text == first end
  if string.sub(text, 1, #first) ~= first then return false end
  local at = #first + 1
  for i = 2, #pieces - 1 do
    local _, to = string.find(text, pieces[i], at, true)
    if not to then return false end
    at = to + 1
  end
  return #text - #last + 1 >= at and string.sub(text, #text - #last + 1) == last
end

function TESTS.begins(text, beginning) return string.sub(text, 1, #beginning) == beginning end
function TESTS.has(text, part) return string.find(text, part, 1, true) ~= nil end

local function type_in(cause) return string.match(string.sub(cause, 1, MOST_CHARS), '^raised ([^:%s]+)') end

function TESTS.raised(cause, wanted)
  local class = type_in(cause)
  return class ~= nil and (class == wanted or string.sub(class, -#wanted - 1) == '.' .. wanted)
end

PREPARE.from, PREPARE.to = sound, sound
function TESTS.from(text, earliest) return (sound(text) or -1) >= earliest end
function TESTS.to(text, latest) return (sound(text) or latest + 1) <= latest end

-- A host, by the failure's own field, or by the master of the job's worker.
PREPARE.host = words_of
function TESTS.host(host, names, worker)
  return names[host] ~= nil or names[string.match(worker, '^(.*):%d+$') or ''] ~= nil
end

local fields, of_ids, of_jobs = { 'origin' }, {}, {}
for _, one in ipairs(conditions) do
  local prepare = PREPARE[one.test]
  if not TESTS[one.test] then is_garbled = true end
  one.wanted = one.text
  if prepare then one.wanted = prepare(one.text) end
  if one.wanted == nil then is_garbled = true end
  if one.field == 'id' then
    of_ids[#of_ids + 1] = one
  else
    of_jobs[#of_jobs + 1], one.at = one, #fields + 1
    fields[one.at] = one.field
    if one.test == 'host' then fields[one.at + 1] = 'worker' end
  end
end
local score = from_score ~= '' and tonumber(from_score)
if score == nil or score ~= score then is_garbled = true end
local refused = garbled() or refusal({ key, 'zset' })
if refused then return refused end

local function is_meant(id)
  for _, one in ipairs(of_ids) do
    if not TESTS[one.test](id, one.wanted) then return false end
  end
  local held = redis.pcall('HMGET', P .. 'job:' .. id, unpack(fields))
  if held.err or held[1] ~= queue then return false end
  for _, one in ipairs(of_jobs) do
    if not TESTS[one.test](held[one.at] or '', one.wanted, held[one.at + 1] or '') then return false end
  end
  return true
end

local found, count = {}, 0

local function cut(text) return string.sub(text or '', 1, MOST_CHARS) end

local function add_job(id, at)
  local held = redis.call('HMGET', P .. 'job:' .. id, unpack(texts))
  found[#found + 1], found[#found + 2] = at, cut(id)
  for i = 1, #texts do found[#found + 1] = cut(held[i]) end
end

local groups = {}

local function add_to_group(id)
  local held = redis.call('HMGET', P .. 'job:' .. id, 'cause', 'func_name', 'frame', 'ended_at')
  local cause, name, frame = cut(held[1]), cut(held[2]), cut(held[3])
  local at, kind = sound(held[4]) or 0, 0
  for i = 1, #texts do
    if kind == 0 and TESTS.begins(cause, texts[i]) then kind = i end
  end
  if frame == '' then frame = type_in(cause) or '' end
  local group_key = kind .. ' ' .. #name .. ' ' .. name .. frame
  local group = groups[group_key]
  if not group then
    group = { kind, name, frame, 0, at, -1, '', '' }
    groups[group_key], found[#found + 1] = group, group
  end
  group[4], group[5] = group[4] + 1, math.min(group[5], at)
  if at > group[6] then group[6], group[7], group[8] = at, cut(id), cause end
end

local total = redis.call('ZCARD', key)
local rank = score and rank_behind(score, from_id, total) or 0
local ids = between(rank, rank + most_ids - 1)
local reached = { from_score, from_id }
for i = 1, #ids, 2 do
  local id = ids[i]
  rank, reached = rank + 1, { ids[i + 1], id }
  if is_meant(id) then
    count = count + 1
    if what == 'jobs' then add_job(id, ids[i + 1]) elseif what == 'groups' then add_to_group(id) end
    if count >= most_found then break end
  end
end
-- No id is that long: the place behind all that begin so.
if #reached[2] > 255 then
  reached[2] = string.sub(reached[2], 1, 255) .. (is_upward and '\255' or '')
end
if what == 'groups' then
  for _, group in ipairs(found) do group[5], group[6] = int(group[5]), int(group[6]) end
end
return { total, rank, rank >= total and '1' or '', reached[1], reached[2],
  what == 'count' and count or found }
