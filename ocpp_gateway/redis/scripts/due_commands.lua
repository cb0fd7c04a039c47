-- Finds parked commands that have to be looked after, and lets nobody else find them for a while.
--
-- KEYS: 1 deadlines of parked commands
-- ARGV: 1 now, 2 until when nobody else finds them (milliseconds since 1970), 3 how many at most,
--       4 prefix of the records of commands
-- Gives: their ids

local due = {}
if kind_of(KEYS[1]) ~= 'zset' then
  return due
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  local key = ARGV[4] .. id
  local stage = stage_of(key)
  if stage == 'missing' or stage == 'foreign' or not is_parked(key) then
    redis.call('ZREM', KEYS[1], id)
  else
    redis.call('ZADD', KEYS[1], ARGV[2], id)
    due[#due + 1] = id
  end
end
return due
