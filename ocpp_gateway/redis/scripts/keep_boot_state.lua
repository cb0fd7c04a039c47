-- Keeps what a charge point was answered to its BootNotification, if no newer session has it by now; or forgets what was
-- kept, as it is accepted, unless a newer session was answered that.
--
-- KEYS: 1 epoch counter of the charge point, 2 boot state
-- ARGV: 1 epoch of the session that was answered, 2 seconds it is kept, 3 boot state, or '': accepted
-- Gives: 1 if it was done, else 0

local epoch = tonumber(ARGV[1])
local newest
if ARGV[3] == '' then
  -- Not the newest session: a charge point that was accepted on an earlier one does not ask again.
  newest = string.match(redis.call('GET', KEYS[2]) or '', '"epoch":(%d+)')
else
  newest = redis.call('GET', KEYS[1])
end
newest = tonumber(newest or '')
if newest and newest > epoch then
  return 0
end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[2])
else
  redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[2])
end
return 1
