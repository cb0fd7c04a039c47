-- Keeps what a charge point was answered to its BootNotification, if no newer session has it by now.
--
-- KEYS: 1 epoch counter of the charge point, 2 boot state
-- ARGV: 1 epoch of the session that was answered, 2 seconds it is kept, 3 boot state
-- Gives: 1 if it was written, else 0

local newest = tonumber(redis.call('GET', KEYS[1]) or '')
if newest and newest > tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[2])
return 1
