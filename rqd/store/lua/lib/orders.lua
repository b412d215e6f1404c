-- orders: precedences that are not strict. Free workers are filled one by one, each from the queue whose
-- turn it is: in rotation, from behind the queue that the master had last; or at random, by weight.
-- A script has no chance of its own: the master sends the seed.

-- The queues of a precedence that have work, in its order: {queue, rank, weight}. The score is the rank,
-- and a weight in its fraction.
function Orders.candidates_of(precedence)
  local names, found = {}, {}
  for queue in Claim.with_work(precedence) do names[#names + 1] = queue end
  for first = 1, #names, 1000 do
    local last = math.min(first + 999, #names)
    for i, score in ipairs(redis.call('ZMSCORE', precedence, unpack(names, first, last))) do
      local rank = math.floor(tonumber(score))
      local weight = (tonumber(score) - rank) * 4096
      found[#found + 1] = { queue = names[first + i - 1], rank = rank, weight = math.max(1, weight) }
    end
  end
  return found
end

-- The first of them behind this queue, which need not have work any more.
function Orders.behind(candidates, precedence, queue)
  local score = redis.call('ZSCORE', precedence, queue)
  local rank = math.floor(tonumber(score or 0))
  for i, one in ipairs(candidates) do
    if one.rank > rank then return i end
  end
  return 1
end

function Orders.drawn(candidates, is_weighted)
  local sum = 0
  for _, one in ipairs(candidates) do sum = sum + (is_weighted and one.weight or 1) end
  local left = math.random() * sum
  for i, one in ipairs(candidates) do
    left = left - (is_weighted and one.weight or 1)
    if left < 0 then return i end
  end
  return #candidates
end

-- As `Claim.for_workers`. `order` is round_robin, random or weighted; `state` the queue of the
-- master's last claim, or the seed.
function Orders.for_workers(workers, precedence, by, now, order, state)
  local claims, left, fence = {}, {}, Claim.begin(now)
  local candidates, is_rotation, at = Orders.candidates_of(precedence), order == 'round_robin', 1
  if is_rotation then
    at = Orders.behind(candidates, precedence, state)
  else
    math.randomseed(sound(state) or 0)
  end
  while candidates[1] and #claims < #workers do
    if not is_rotation then at = Orders.drawn(candidates, order == 'weighted') end
    local queue, before, has_work = candidates[at].queue, #claims, nil
    by.upto = before + 1
    fence, has_work = Claim.from_queue(queue, claims, workers, fence, by, now)
    if not has_work then redis.call('SREM', P .. 'nonempty', queue) end
    if has_work and #claims > before then
      at = at + 1
    else
      -- It has too many ids of expired jobs for one turn: the next one goes on there.
      if has_work then left[#left + 1] = queue end
      table.remove(candidates, at)
    end
    if at > #candidates then at = 1 end
  end
  -- No worker here is free any more: the next idle master shall know.
  for _, one in ipairs(candidates) do left[#left + 1] = one.queue end
  for i = 1, math.min(Claim.MARKERS, #left) do Ready.wake('queue:' .. left[i]) end
  if claims[1] then redis.call('HSET', P .. 'counters', 'fence', int(fence)) end
  return claims
end
