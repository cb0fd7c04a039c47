-- Deletes session records that a node left behind, and what says that they are there.
--
-- KEYS: 1 lease of the node, 2 charge points of its session records, 3 known nodes, 4 what others have taken from it,
--       then per charge point: session record, epoch counter
-- ARGV: 1 node id, 2 seconds a counter lives, 3 '' or, for a node that lives again, the moment it began to
--       (milliseconds since 1970): what was connected before was left behind, then per charge point: its id
-- Gives: the records that were deleted; false, with nothing changed, if 3 is '' and the node lives
--
-- A record that names another node, or a later session of this one, is left alone: it was claimed meanwhile.

local born = tonumber(ARGV[3])
if not born and redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end

local deleted = {}
for place = 1, #ARGV - 3 do
  local record_key, counter_key = KEYS[2 * place + 3], KEYS[2 * place + 4]
  local current = redis.call('MGET', record_key)[1]
  local readable, record = false, nil
  if current then
    readable, record = pcall(cjson.decode, current)
  end
  local is_its = readable and type(record) == 'table' and record.nodeId == ARGV[1]
  local is_later = is_its and born and not (type(record.connectedAtMs) == 'number' and record.connectedAtMs < born)
  if is_its and not is_later then
    redis.call('DEL', record_key)  -- first: what a full Redis does not refuse (release_session)
    -- The next claim must get a higher epoch, also if the counter expired during a long session.
    if type(record.epoch) == 'number' then
      local counter = tonumber(redis.call('MGET', counter_key)[1] or '0') or 0
      if record.epoch > counter then
        counter = record.epoch
      end
      redis.call('SET', counter_key, string.format('%.0f', counter), 'EX', ARGV[2])
    end
    deleted[#deleted + 1] = current
  end
  if not is_later then
    redis.call('SREM', KEYS[2], ARGV[place + 3])
  end
end
if #ARGV == 3 then
  -- Without charge points: what was taken from it and it has not told the end of, some at a time.
  for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
    local taken = redis.call('HGET', KEYS[4], field)
    local readable, record = pcall(cjson.decode, taken)
    local is_later = born and readable and type(record) == 'table'
      and not (type(record.connectedAtMs) == 'number' and record.connectedAtMs < born)
    if not is_later then
      redis.call('HDEL', KEYS[4], field)
      deleted[#deleted + 1] = taken
      if #deleted == 50 then
        return deleted
      end
    end
  end
end
if not born and redis.call('EXISTS', KEYS[2], KEYS[4]) == 0 then
  redis.call('SREM', KEYS[3], ARGV[1])
end
return deleted
