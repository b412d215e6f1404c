-- search: looks at some hundred ids of an index of a queue, in its order, for the jobs that match.
-- KEYS[1]  {ns}:queues
-- ARGV     queue, index ('' for the ready jobs), '1' from its lowest score on ('' from its highest);
--          score and id behind which to begin ('', '' for the start), the lowest and the highest score
--          to look at, the most ids to look at, the most jobs to find; what to return (jobs, groups or
--          count); the number of conditions, each as field, test and text; a number of texts: the
--          fields to return of a job, or for groups the beginnings of causes
-- returns  {ids between these scores, ids up to where it has come, '1' at the end, score and id there,
--          found}
--          found: of jobs, for each its score, id and fields; of groups, for each a packed text: the
--          number of its cause's beginning (0: none), count, first and last end, the lengths of
--          function, frame, id and cause of the last one, and these; else how many match
-- Safe to send twice: it writes nothing.
--@ names arguments
local MOST_CHARS, LONGEST_ID = 512, 255
local queue, index, is_upward = take(), take(), take() == '1'
local from_score, from_id, lowest, highest = take(), take(), take(), take()
local most_ids, most_found, what = take_number(1), take_number(1), take()
local conditions = {}
for i = 1, take_count() do conditions[i] = { field = take(), test = take(), text = take() } end
local texts = {}
for i = 1, take_count() do texts[i] = take() end
-- The jobs that have ended stand by their end, not by the end of their records.
local key = P .. 'queue:' .. queue .. (index ~= '' and ':' .. index or '')
if index == 'finished' or index == 'failed' or index == 'canceled' then
  key = P .. 'by-end:' .. index .. ':' .. queue
end

-- By bytes, as Redis orders members of the same score: Lua's own order goes by the server's language. What
-- is longer than an id is none, and stands where it would if it were cut.
local function is_before(a, b)
  for i = 1, LONGEST_ID do
    local x, y = string.byte(a, i) or -1, string.byte(b, i) or -1
    if x ~= y then return x < y end
    if x < 0 then return false end
  end
  return false
end

local function ids_between(first, last)
  if is_upward then return redis.call('ZRANGE', key, first, last) end
  return redis.call('ZRANGE', key, first, last, 'REV')
end

-- How many ids stand before the place, which may be the place of one that has left: those that stay keep
-- their order, whatever comes and goes.
local function rank_behind(score, id, low, high)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = ids_between(middle, middle)[1]
    local at = tonumber(redis.call('ZSCORE', key, found))
    local is_behind
    if at ~= score then is_behind = (at > score) == is_upward
    elseif is_upward then is_behind = is_before(id, found)
    else is_behind = is_before(found, id) end
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

function TESTS.same(text, wanted) return text == wanted end

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
function TESTS.begins_otherwise(text, beginnings)
  for beginning in string.gmatch(beginnings, '[^\n]+') do
    if TESTS.begins(text, beginning) then return false end
  end
  return true
end
function TESTS.has(text, part) return string.find(text, part, 1, true) ~= nil end

local function type_in(cause) return string.match(string.sub(cause, 1, MOST_CHARS), '^raised ([^:%s]+)') end

function TESTS.raised(cause, wanted)
  local class = type_in(cause)
  return class ~= nil and (class == wanted or string.sub(class, -#wanted - 1) == '.' .. wanted)
end

-- A failure without a frame counts by its exception.
PREPARE.frame = pieces_of
function TESTS.frame(frame, pieces, cause)
  return TESTS.like(frame ~= '' and frame or type_in(cause) or '', pieces)
end

PREPARE.from, PREPARE.to = sound, sound
function TESTS.from(text, earliest) return (sound(text) or -1) >= earliest end
function TESTS.to(text, latest) return (sound(text) or 0) <= latest end

-- The first word is the host's name, or a master's; the others are the masters that are there now. Where a
-- job has failed stands in its record.
function PREPARE.host(text) return { name = string.match(text, '%S+'), masters = words_of(text) } end
function TESTS.host(host, wanted, worker)
  local master = string.match(worker, '^(.*):%d+$') or ''
  if host == wanted.name or master == wanted.name then return true end
  return host == '' and wanted.masters[master] ~= nil
end

-- The id needs no read of the job; the first other condition one of a single field, at half the cost: where
-- that fails, nothing else is read.
local SECOND = { host = 'worker', frame = 'cause' }
local of_ids, of_jobs, fields = {}, {}, {}
for _, one in ipairs(conditions) do
  one.fits, one.wanted = TESTS[one.test], one.text
  if PREPARE[one.test] then one.wanted = PREPARE[one.test](one.text) end
  if not one.fits or one.wanted == nil then is_garbled = true end
  if one.field == 'id' then
    of_ids[#of_ids + 1] = one
  else
    of_jobs[#of_jobs + 1], one.at, fields[#fields + 1] = one, #fields + 1, one.field
    fields[#fields + 1] = SECOND[one.test]
  end
end
local first = of_jobs[1]
local shown = what == 'jobs' and texts or what == 'groups' and { 'cause', 'func_name', 'frame', 'ended_at' } or {}
local shown_from = #fields
for _, name in ipairs(shown) do fields[#fields + 1] = name end
local is_one_read = #fields == 1
local looks_first = not is_one_read and #of_jobs > 1
local score = from_score ~= '' and tonumber(from_score)
local is_range = tonumber(lowest) and tonumber(highest)
if not first or score == nil or score ~= score or not is_range then is_garbled = true end
local refused = garbled() or refusal({ key, 'zset' })
if refused then return refused end

-- The fields of a job that matches, else nil.
local function read(id)
  for _, one in ipairs(of_ids) do
    if not one.fits(id, one.wanted) then return nil end
  end
  local job = P .. 'job:' .. id
  if looks_first or is_one_read then
    local text = redis.pcall('HGET', job, first.field)
    if type(text) == 'table' or not first.fits(text or '', first.wanted) then return nil end
    if is_one_read then return {} end
  end
  local held = redis.pcall('HMGET', job, unpack(fields))
  if held.err then return nil end
  for _, one in ipairs(of_jobs) do
    if not one.fits(held[one.at] or '', one.wanted, held[one.at + 1] or '') then return nil end
  end
  return held
end

local found, count = {}, 0

local function cut(text)
  if not text then return '' end
  return #text > MOST_CHARS and string.sub(text, 1, MOST_CHARS) or text
end

local function add_job(id, held)
  found[#found + 1], found[#found + 2] = redis.call('ZSCORE', key, id), cut(id)
  for i = 1, #shown do found[#found + 1] = cut(held[shown_from + i]) end
end

-- The number of a cause's beginning in `texts`, by its first characters: causes have few of them.
local kinds = setmetatable({}, { __index = function(known, start)
  local kind = 0
  for i = 1, #texts do
    if kind == 0 and TESTS.begins(start, texts[i]) then kind = i end
  end
  known[start] = kind
  return kind
end })

local groups = setmetatable({}, { __index = function(known, name)
  known[name] = {}
  return known[name]
end })

local function add_to_group(id, held)
  local cause, name, frame = cut(held[shown_from + 1]), cut(held[shown_from + 2]), cut(held[shown_from + 3])
  local at, kind = sound(held[shown_from + 4]) or 0, kinds[string.sub(cause, 1, 20)]
  if frame == '' then frame = type_in(cause) or '' end
  local of_frame = groups[name]
  local group = of_frame[frame] and of_frame[frame][kind]
  if not group then
    group = { kind, name, frame, 0, at, -1, '', '' }
    of_frame[frame] = of_frame[frame] or {}
    of_frame[frame][kind], found[#found + 1] = group, group
  end
  group[4] = group[4] + 1
  if at < group[5] then group[5] = at end
  if at > group[6] then group[6], group[7], group[8] = at, cut(id), cause end
end

local add = what == 'jobs' and add_job or what == 'groups' and add_to_group or function() end
local start = is_upward and redis.call('ZCOUNT', key, '-inf', '(' .. lowest)
  or redis.call('ZCOUNT', key, '(' .. highest, '+inf')
local total = redis.call('ZCOUNT', key, lowest, highest)
local finish = start + total
local rank = score and rank_behind(score, from_id, start, finish) or start
local ids, last = {}, nil
if rank < finish then ids = ids_between(rank, math.min(rank + most_ids, finish) - 1) end
for _, id in ipairs(ids) do
  rank, last = rank + 1, id
  local held = read(id)
  if held then
    count = count + 1
    add(id, held)
    if count >= most_found then break end
  end
end
if last then from_score, from_id = redis.call('ZSCORE', key, last), string.sub(last, 1, LONGEST_ID) end
-- As one text each: a client's parser spends more on a list than the server on a group.
if what == 'groups' then
  for i, group in ipairs(found) do
    local kind, name, frame, jobs, earliest, latest, id, cause = unpack(group)
    found[i] = struct.pack('>I4I4ddI4I4I4I4', kind, jobs, earliest, latest, #name, #frame, #id, #cause)
      .. name .. frame .. id .. cause
  end
end
return { total, rank - start, rank >= finish and '1' or '', from_score, from_id, what == 'count' and count or found }
