-- Deletes a session record if it is still the one that is given back.
--
-- KEYS: 1 session record, 2 epoch counter, 3 security profile of the last session, 4 charge points of our node,
--       5 what others have taken from our node (claim_session)
-- ARGV: 1 node id, 2 epoch ('' if the claim's answer never came), 3 connectedAtMs (compared where 2 is ''),
--       4 seconds a counter lives, 5 security profile of the session if it was not kept yet, else 0, 6 charge point id
-- Gives: 1 if it was deleted, else 0

if ARGV[2] ~= '' then
  redis.call('HDEL', KEYS[5], ARGV[2] .. '|' .. ARGV[6])
else
  for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
    if string.match(field, '^%d+|(.*)$') == ARGV[6] then
      local readable, record = pcall(cjson.decode, redis.call('HGET', KEYS[5], field))
      if readable and type(record) == 'table' and record.connectedAtMs == tonumber(ARGV[3]) then
        redis.call('HDEL', KEYS[5], field)
      end
    end
  end
end
local readable, record = pcall(cjson.decode, redis.call('MGET', KEYS[1])[1] or '')
if not (readable and type(record) == 'table') or record.nodeId ~= ARGV[1] then
  redis.call('SREM', KEYS[4], ARGV[6])
  return 0
end
if ARGV[2] ~= '' then
  if record.epoch ~= tonumber(ARGV[2]) then
    return 0
  end
elseif record.connectedAtMs ~= tonumber(ARGV[3]) then
  return 0
end
-- First, as a Redis that is full refuses a script's first write, unless it deletes.
redis.call('DEL', KEYS[1])
-- The next claim must get a higher epoch, also if the counter expired during a long session.
if type(record.epoch) == 'number' then
  local counter = tonumber(redis.call('MGET', KEYS[2])[1] or '0') or 0
  if record.epoch > counter then
    counter = record.epoch
  end
  redis.call('SET', KEYS[2], string.format('%.0f', counter), 'EX', ARGV[4])
end
if ARGV[5] ~= '0' then
  redis.call('SET', KEYS[3], ARGV[5])
end
redis.call('SREM', KEYS[4], ARGV[6])
return 1
