-- open or sent -> final: stores the final event. A record that Redis lost counts as open.
--
-- KEYS: 1 record of the command, 2 its audit record, 3 deadlines of parked commands
-- ARGV: 1 source, 2 charge point id, 3 lives, 4 command id, 5 when the sweep looks after it (milliseconds since 1970),
--       6 node id and 7 startedAt of who publishes, 8 message id of the CALL that this ends, or '': of none,
--       9 event id, 10 to 12 key, value and headers of the event, 13 summary, 14 '1' if it is retryable, else '0',
--       15 now (milliseconds since 1970), 16 seconds an audit record lives, 17 audit record, if there is to be one
-- Gives: 1 if it was stored (also if it was us who did before), else 0

local stage = stage_of(KEYS[1])
if stage == 'done' or stage == 'foreign' then
  return 0
end
if stage ~= 'missing' then
  local known = redis.call('HMGET', KEYS[1], 'source', 'messageId', 'eventId', 'finalBy', 'finalBorn')
  if stage == 'final' then
    return known[3] == ARGV[9] and known[4] == ARGV[6] and known[5] == ARGV[7] and 1 or 0
  end
  if known[1] ~= ARGV[1] or stage == 'sent' and known[2] ~= ARGV[8] then
    return 0
  end
end
redis.call('HSET', KEYS[1], 'state', 'final', 'source', ARGV[1], 'chargePointId', ARGV[2],
  'finalBy', ARGV[6], 'finalBorn', ARGV[7], 'eventId', ARGV[9], 'key', ARGV[10], 'value', ARGV[11],
  'headers', ARGV[12], 'summary', ARGV[13], 'retryable', ARGV[14], 'finalAtMs', ARGV[15])
move_on(KEYS[1], KEYS[3], ARGV[4], ARGV[3], ARGV[5])
if ARGV[17] then
  redis.call('SET', KEYS[2], ARGV[17], 'EX', ARGV[16])
end
return 1
