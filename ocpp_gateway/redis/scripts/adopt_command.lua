-- Makes another process the one that publishes a final event, if the one before is still the one that was found dead.
--
-- KEYS: 1 record of the command, 2 lease of the dead process's node
-- ARGV: 1 node id and 2 startedAt of the dead process, 3 and 4 those of the new one
-- Gives: {event id, key, value, headers} if it is the new one's (also if it was before), else false

if stage_of(KEYS[1]) ~= 'final' then
  return false
end
local by = redis.call('HMGET', KEYS[1], 'finalBy', 'finalBorn')
if not (by[1] == ARGV[3] and by[2] == ARGV[4]) then
  local lease = redis.call('MGET', KEYS[2])[1]
  local is_alive = lease and text_of(decoded(lease).startedAt) == ARGV[2]
  if by[1] ~= ARGV[1] or by[2] ~= ARGV[2] or is_alive then
    return false
  end
  redis.call('HSET', KEYS[1], 'finalBy', ARGV[3], 'finalBorn', ARGV[4])
end
return redis.call('HMGET', KEYS[1], 'eventId', 'key', 'value', 'headers')
