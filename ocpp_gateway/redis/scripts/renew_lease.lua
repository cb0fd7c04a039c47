-- Writes a node's lease.
--
-- KEYS: 1 lease
-- ARGV: 1 value, 2 seconds it lives
-- Gives: the value before (or false)

local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return before
