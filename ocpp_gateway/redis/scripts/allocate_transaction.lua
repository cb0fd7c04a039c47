-- Finds or takes the transaction id of a StartTransaction.
--
-- KEYS: 1 shared secret, 2 question, then the transactions that our candidates stand for
-- ARGV: 1 our copy of the secret, 2 seconds ids are remembered, 3 owner, then the candidates
-- Gives: {'id', id, 1 if the question was asked before else 0} or {'secret', the secret in force} or {'taken'}

local secret = redis.call('GET', KEYS[1])
if not secret then
  redis.call('SET', KEYS[1], ARGV[1])
elseif secret ~= ARGV[1] then
  return {'secret', secret}
end

local known = redis.call('GET', KEYS[2])
if known then
  return {'id', known, 1}
end
for place = 3, #KEYS do
  local id = ARGV[place + 1]
  if redis.call('SET', KEYS[place], ARGV[3], 'NX', 'EX', ARGV[2]) then
    redis.call('SET', KEYS[2], id, 'EX', ARGV[2])
    return {'id', id, 0}
  end
  if redis.call('GET', KEYS[place]) == ARGV[3] then
    redis.call('SET', KEYS[2], id, 'EX', ARGV[2])
    return {'id', id, 1}
  end
end
return {'taken'}
