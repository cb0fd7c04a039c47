-- Takes a command on, unless its commandId was there before; finds who has its charge point.
--
-- KEYS: 1 record of the command, 2 session record of the charge point
-- ARGV: 1 source, 2 charge point id, 3 lives, 4 prefix of lease keys
-- Gives: {'new', 'resumed' or 'duplicate', fields and values of the record, owner (or false)}

local stage = stage_of(KEYS[1])
local owner = owner_of(KEYS[2], ARGV[4])
local past = ''
if stage == 'foreign' then
  return {'duplicate', {'state', 'done'}, owner}
elseif stage ~= 'missing' then
  local known = redis.call('HMGET', KEYS[1], 'source', 'past', 'retryable')
  local source, before = known[1] or '', known[2] or ''
  if source == ARGV[1] then
    return {'resumed', redis.call('HGETALL', KEYS[1]), owner}
  elseif string.find('\n' .. before, '\n' .. ARGV[1] .. '\n', 1, true) then
    -- It had its final event, then another record began the command anew.
    return {'resumed', {'state', 'done', 'source', ARGV[1], 'chargePointId', ARGV[2]}, owner}
  elseif stage ~= 'done' or known[3] ~= '1' then
    return {'duplicate', redis.call('HGETALL', KEYS[1]), owner}
  end
  past = string.sub(source .. '\n' .. before, 1, 4096)
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'state', 'open', 'source', ARGV[1], 'chargePointId', ARGV[2], 'past', past)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {'new', redis.call('HGETALL', KEYS[1]), owner}
