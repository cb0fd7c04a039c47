-- Makes a connection the owner of a charge point's session.
--
-- KEYS: 1 session record, 2 epoch counter, 3 security profile of the last session
-- ARGV: 1 new record without its epoch (a JSON object, not empty), 2 seconds a record lives, 3 seconds a counter lives,
--       4 prefix of lease keys, 5 prefix of channels, 6 our node id, 7 charge point id and 8 our node id as JSON strings,
--       9 epoch of the session that we have of it, else 0 (Redis may have lost it, with the counter),
--       10 security profile of this session, 11 '1' if it may be lower than the last one's
-- Gives: the new epoch, the record that was there (or false), 1 if the node of that record is alive (else 0),
--        the security profile that is kept (or false); false, with nothing changed, if ours is lower and may not be
--
-- Our profile is kept when the session is open (keep_profile).

local kept = redis.call('GET', KEYS[3])
local last = tonumber(kept or '')
if ARGV[11] ~= '1' and last and last > tonumber(ARGV[10]) then
  return false
end

local previous = redis.call('GET', KEYS[1])
local epoch = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
if tonumber(ARGV[9]) > epoch then
  epoch = tonumber(ARGV[9])
end
local previous_node = ''
if previous then
  local readable, record = pcall(cjson.decode, previous)
  if readable and type(record) == 'table' then
    if type(record.epoch) == 'number' and record.epoch > epoch then
      epoch = record.epoch
    end
    if type(record.nodeId) == 'string' then
      previous_node = record.nodeId
    end
  end
end
local text = string.format('%.0f', epoch + 1)

redis.call('SET', KEYS[2], text, 'EX', ARGV[3])
redis.call('SET', KEYS[1], string.sub(ARGV[1], 1, -2) .. ',"epoch":' .. text .. '}', 'EX', ARGV[2])

local alive = 0
if previous_node ~= '' then
  alive = redis.call('EXISTS', ARGV[4] .. previous_node)
  if previous_node ~= ARGV[6] and alive == 1 then
    redis.call('PUBLISH', ARGV[5] .. previous_node,
      '{"type":"session_superseded","chargePointId":' .. ARGV[7] .. ',"nodeId":' .. ARGV[8] .. ',"epoch":' .. text .. '}')
  end
end
return {text, previous, alive, kept}
