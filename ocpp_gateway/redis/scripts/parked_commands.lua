-- Finds the commands that wait for a charge point. Those whose record is gone are waited for no more.
--
-- KEYS: 1 parked commands of the charge point
-- ARGV: 1 prefix of the records of commands, 2 how many are looked at
-- Gives: ids of those that are open, in order

local open = {}
if kind_of(KEYS[1]) ~= 'list' then
  return open
end
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  local key = ARGV[1] .. id
  local stage = stage_of(key)
  if stage == 'missing' or stage == 'foreign' or not is_parked(key) then
    redis.call('LREM', KEYS[1], 0, id)
  elseif stage == 'open' then
    open[#open + 1] = id
  end
end
return open
