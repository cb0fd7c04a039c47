-- Keeps the transaction id that the CSMS gives to a StartTransaction in place of ours.
--
-- KEYS: 1 shared secret, 2 question, 3 transaction that the id stands for, 4 the id as the charge point's own
-- ARGV: 1 our copy of the secret, 2 seconds ids are remembered, 3 charge point id, 4 the question's digest, 5 the id,
--       6 prefix of keys like 4
-- Gives: {'id', the id that counts: one that was adopted before stays} or {'secret', the secret in force}

local secret = redis.call('GET', KEYS[1])
if not secret then
  redis.call('SET', KEYS[1], ARGV[1])
elseif secret ~= ARGV[1] then
  return {'secret', secret}
end

local known = redis.call('GET', KEYS[2])
if known and redis.call('GET', ARGV[6] .. known) == ARGV[4] then
  return {'id', known}
end
redis.call('SET', KEYS[2], ARGV[5], 'EX', ARGV[2])
redis.call('SET', KEYS[4], ARGV[4], 'EX', ARGV[2])
-- None of ours may be the same; that of another charge point stays its own.
redis.call('SET', KEYS[3], ARGV[3] .. ' ' .. ARGV[4], 'NX', 'EX', ARGV[2])
return {'id', ARGV[5]}
