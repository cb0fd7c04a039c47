-- open -> sent: the CALL is about to be written. A record that Redis lost counts as open.
--
-- KEYS: 1 record of the command, 2 its audit record, 3 deadlines of parked commands
-- ARGV: 1 source, 2 charge point id, 3 lives, 4 command id, 5 when the sweep looks after it (milliseconds since 1970),
--       6 node id and 7 startedAt of the sender, 8 epoch, 9 message id, 10 audit record, 11 seconds that one lives
-- Gives: 1 if it may be sent (also if it was us who were told so before), else 0

local stage = stage_of(KEYS[1])
if stage == 'sent' then
  local known = redis.call('HMGET', KEYS[1], 'source', 'sentBy', 'sentBorn', 'messageId')
  local is_ours = known[1] == ARGV[1] and known[2] == ARGV[6] and known[3] == ARGV[7] and known[4] == ARGV[9]
  return is_ours and 1 or 0
end
if stage == 'open' and redis.call('HGET', KEYS[1], 'source') ~= ARGV[1] or stage ~= 'open' and stage ~= 'missing' then
  return 0
end
redis.call('HSET', KEYS[1], 'state', 'sent', 'source', ARGV[1], 'chargePointId', ARGV[2],
  'sentBy', ARGV[6], 'sentBorn', ARGV[7], 'epoch', ARGV[8], 'messageId', ARGV[9])
move_on(KEYS[1], KEYS[3], ARGV[4], ARGV[3], ARGV[5])
redis.call('SET', KEYS[2], ARGV[10], 'EX', ARGV[11])
return 1
