-- Lets an open command wait for its charge point, unless that is connected or too many wait already.
--
-- KEYS: 1 record of the command, 2 parked commands of its charge point, 3 deadlines of parked commands,
--       4 session record of the charge point
-- ARGV: 1 source, 2 charge point id, 3 command id, 4 until when it waits (milliseconds since 1970), 5 command,
--       6 how many may wait, 7 prefix of lease keys
-- Gives: 'parked' (also if it was before), 'full', 'connected', or 'not_open': it was sent or finished
--
-- What is foreign under the names of our list and deadlines is replaced.

local stage = stage_of(KEYS[1])
if stage == 'open' and redis.call('HGET', KEYS[1], 'source') ~= ARGV[1] or stage ~= 'open' and stage ~= 'missing' then
  return 'not_open'
end
if stage == 'open' and is_parked(KEYS[1]) then
  return 'parked'
end
if owner_of(KEYS[4], ARGV[7]) then
  return 'connected'
end
local parked, deadlines = kind_of(KEYS[2]), kind_of(KEYS[3])
if tonumber(ARGV[6]) <= (parked == 'list' and redis.call('LLEN', KEYS[2]) or 0) then
  return 'full'
end
redis.call('HSET', KEYS[1], 'state', 'open', 'source', ARGV[1], 'chargePointId', ARGV[2],
  'command', ARGV[5], 'parkedUntil', ARGV[4])
redis.call('PERSIST', KEYS[1])
if parked == 'list' then
  redis.call('LREM', KEYS[2], 0, ARGV[3])  -- of a record that was lost
elseif parked ~= 'none' then
  redis.call('DEL', KEYS[2])
end
if deadlines ~= 'zset' and deadlines ~= 'none' then
  redis.call('DEL', KEYS[3])
end
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[3])
return 'parked'
