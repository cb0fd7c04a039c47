-- Writes a node's lease, and its name among the known nodes.
--
-- KEYS: 1 lease, 2 known nodes
-- ARGV: 1 value, 2 seconds it lives, 3 node id
-- Gives: the value before (or false)

local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
return before
