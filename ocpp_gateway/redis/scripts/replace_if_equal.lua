-- Replaces a value if it is still the one that was read. A lifetime that the key has is kept.
--
-- KEYS: 1 key
-- ARGV: 1 value that was read, 2 new value
-- Gives: 1 if it was replaced, else 0

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
  return 1
end
return 0
