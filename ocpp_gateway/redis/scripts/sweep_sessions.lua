-- Deletes session records that a node left behind, and what says that they are there.
--
-- KEYS: 1 lease of the node, 2 charge points of its session records, 3 known nodes,
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
  local record_key, counter_key = KEYS[2 * place + 2], KEYS[2 * place + 3]
  local current = redis.call('GET', record_key)
  local readable, record = false, nil
  if current then
    readable, record = pcall(cjson.decode, current)
  end
  local is_its = readable and type(record) == 'table' and record.nodeId == ARGV[1]
  local is_later = is_its and born and not (type(record.connectedAtMs) == 'number' and record.connectedAtMs < born)
  if is_its and not is_later then
    -- The next claim must get a higher epoch, also if the counter expired during a long session.
    if type(record.epoch) == 'number' then
      local counter = tonumber(redis.call('GET', counter_key) or '0') or 0
      if record.epoch > counter then
        counter = record.epoch
      end
      redis.call('SET', counter_key, string.format('%.0f', counter), 'EX', ARGV[2])
    end
    redis.call('DEL', record_key)
    deleted[#deleted + 1] = current
  end
  if not is_later then
    redis.call('SREM', KEYS[2], ARGV[place + 3])
  end
end
if not born and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[3], ARGV[1])
end
return deleted
