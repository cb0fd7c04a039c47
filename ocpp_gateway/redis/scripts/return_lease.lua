-- Gives a node's lease back, unless it is another's of the same name. A node that leaves no sessions is known no more.
--
-- KEYS: 1 lease, 2 charge points of the node's session records, 3 known nodes
-- ARGV: 1 startedAt of the lease, 2 node id
-- Gives: 1 if the lease was there, 0 if it had expired, false if it is another's
--
-- startedAt names the life of a node. The rest of the value may be that of a renewal whose answer the node never got.

local current = redis.call('GET', KEYS[1])
if current then
  local readable, lease = pcall(cjson.decode, current)
  if not readable or type(lease) ~= 'table' or lease.startedAt ~= ARGV[1] then
    return false
  end
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[3], ARGV[2])
end
return redis.call('DEL', KEYS[1])
