-- Keeps the security profile of a session that is open, if it is still the one that counts.
--
-- KEYS: 1 session record, 2 security profile of the last session
-- ARGV: 1 node id, 2 epoch, 3 security profile
-- Gives: 1 if it was written, else 0

local current = redis.call('GET', KEYS[1])
if not current then
  return 0
end
local readable, record = pcall(cjson.decode, current)
if not (readable and type(record) == 'table') or record.nodeId ~= ARGV[1] or record.epoch ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[3])
return 1
