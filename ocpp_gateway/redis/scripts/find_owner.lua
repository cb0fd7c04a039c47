-- Finds who has a charge point.
--
-- KEYS: 1 session record of the charge point
-- ARGV: 1 prefix of lease keys
-- Gives: owner (or false)

return owner_of(KEYS[1], ARGV[1])
