-- Takes a command on, unless its commandId was there before; finds who has its charge point.
--
-- KEYS: 1 record of the command, 2 session record of the charge point
-- ARGV: 1 source, 2 charge point id, 3 lives, 4 prefix of lease keys
-- Gives: {'new', 'resumed' or 'duplicate', fields and values of the record, owner (or false)}

local stage = stage_of(KEYS[1])
local owner = owner_of(KEYS[2], ARGV[4])
local past, refused = '', ''
if stage == 'foreign' then
  return {'duplicate', {'state', 'done'}, owner}
elseif stage ~= 'missing' then
  local known = redis.call('HMGET', KEYS[1], 'source', 'past', 'retryable', 'refused')
  local source, before = known[1] or '', known[2] or ''
  refused = known[4] or ''
  if source == ARGV[1] then
    return {'resumed', redis.call('HGETALL', KEYS[1]), owner}
  elseif string.find('\n' .. before, '\n' .. ARGV[1] .. '\n', 1, true) then
    -- It had its final event, then another record began the command anew.
    return {'resumed', {'state', 'done', 'source', ARGV[1], 'chargePointId', ARGV[2]}, owner}
  elseif string.find('\n' .. refused, '\n' .. ARGV[1] .. '\n', 1, true) then
    return {'duplicate', redis.call('HGETALL', KEYS[1]), owner}
  elseif stage ~= 'done' or known[3] ~= '1' then
    -- It is one still if it is delivered again when that other has failed: a record must not have two ends.
    redis.call('HSET', KEYS[1], 'refused', string.sub(ARGV[1] .. '\n' .. refused, 1, 4096))
    return {'duplicate', redis.call('HGETALL', KEYS[1]), owner}
  end
  past = string.sub(source .. '\n' .. before, 1, 4096)
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'state', 'open', 'source', ARGV[1], 'chargePointId', ARGV[2],
  'past', past, 'refused', refused)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {'new', redis.call('HGETALL', KEYS[1]), owner}
