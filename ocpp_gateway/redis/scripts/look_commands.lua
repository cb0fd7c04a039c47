-- Reads the records of commands.
--
-- KEYS: records of commands
-- ARGV: none
-- Gives: per record: its fields and values; false if there is none

local found = {}
for place, key in ipairs(KEYS) do
  local stage = stage_of(key)
  if stage == 'missing' then
    found[place] = false
  elseif stage == 'foreign' then
    found[place] = {'state', 'done'}
  else
    found[place] = redis.call('HGETALL', key)
  end
end
return found
