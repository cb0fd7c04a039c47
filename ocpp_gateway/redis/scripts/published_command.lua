-- final -> done: Kafka has the final event, so its bytes are not needed any more. It is parked no more, either.
--
-- KEYS: 1 record of the command, 2 parked commands of its charge point, 3 deadlines of parked commands
-- ARGV: 1 source, 2 charge point id, 3 lives, 4 command id, 5 event id
-- Gives: 1 if it is done now, else 0: it was before, or another round of the command has begun

local stage = stage_of(KEYS[1])
if stage == 'missing' then
  -- Redis lost it: who gets the record again must not begin anew.
  redis.call('HSET', KEYS[1], 'state', 'done', 'source', ARGV[1], 'chargePointId', ARGV[2], 'eventId', ARGV[5])
elseif stage == 'final' and redis.call('HGET', KEYS[1], 'eventId') == ARGV[5] then
  -- First, as a Redis that is full refuses a script's first write, unless it deletes.
  redis.call('HDEL', KEYS[1], 'key', 'value', 'headers', 'command', 'parkedUntil')
  if kind_of(KEYS[2]) == 'list' then
    redis.call('LREM', KEYS[2], 0, ARGV[4])
  end
  if kind_of(KEYS[3]) == 'zset' then
    redis.call('ZREM', KEYS[3], ARGV[4])
  end
  redis.call('HSET', KEYS[1], 'state', 'done')
else
  return 0
end
keep(KEYS[1], ARGV[3])
return 1
