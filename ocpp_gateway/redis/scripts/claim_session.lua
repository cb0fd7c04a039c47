-- Makes a connection the owner of a charge point's session.
--
-- KEYS: 1 session record, 2 epoch counter, 3 security profile of the last session, 4 charge points of our node,
--       5 connections of the charge point, 6 known pair of address and charge point, if the address is known
-- ARGV: 1 new record without its epoch (a JSON object, not empty), 2 seconds a record lives, 3 seconds a counter lives,
--       4 prefix of lease keys, 5 prefix of channels, 6 prefix of the keys like 4, 7 our node id,
--       8 charge point id, 9 the same and 10 our node id as JSON strings,
--       11 epoch of the session that we have of it, else 0 (Redis may have lost it, with the counter),
--       12 security profile of this session, 13 '1' if it may be lower than the last one's,
--       14 microseconds from one connection of the charge point to the next (0: any number),
--       15 how many of them it may be early, 16 seconds a known pair lives,
--       17 prefix of the keys that keep what other nodes have taken from a node and it has not told the end of yet,
--       18 key of the nodes that are known
-- Gives: {the new epoch, the record that was there (or false), 1 if the node of that record is alive (else 0),
--        the security profile that is kept (or false)}; with nothing changed:
--        {'', milliseconds to wait, 1 if the node of the record that is there is alive (else 0)} if it connects too often,
--        false if its security profile is lower and may not be
--
-- Our profile is kept when the session is open (keep_profile). Connections are counted by GCRA, as attempts are (admit).

local values = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[5])
local previous, counter, kept, paid_off = values[1], values[2], values[3], values[4]
local last = tonumber(kept or '')
if ARGV[13] ~= '1' and last and last > tonumber(ARGV[12]) then
  return false
end

local epoch = math.max(tonumber(counter or '') or 0, tonumber(ARGV[11]))
local previous_node, previous_epoch = '', 0
if previous then
  local readable, record = pcall(cjson.decode, previous)
  if readable and type(record) == 'table' then
    if type(record.epoch) == 'number' and record.epoch > epoch then
      epoch = record.epoch
    end
    if type(record.epoch) == 'number' then
      previous_epoch = record.epoch
    end
    if type(record.nodeId) == 'string' then
      previous_node = record.nodeId
    end
  end
end
local alive = 0
if previous_node ~= '' then
  alive = redis.call('EXISTS', ARGV[4] .. previous_node)
end

local step, early = tonumber(ARGV[14]), tonumber(ARGV[15])
if step > 0 then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local before = math.min(math.max(tonumber(paid_off or '') or now, now), now + early + step)
  if before - early > now then
    return {'', string.format('%.0f', math.ceil((before - early - now) / 1000)), alive}
  end
  local moment = before + step
  redis.call('SET', KEYS[5], string.format('%.0f', moment), 'PX', math.ceil((moment - now) / 1000))
end

local text = string.format('%.0f', epoch + 1)
redis.call('SET', KEYS[2], text, 'EX', ARGV[3])
redis.call('SET', KEYS[1], string.sub(ARGV[1], 1, -2) .. ',"epoch":' .. text .. '}', 'EX', ARGV[2])
redis.call('SADD', KEYS[4], ARGV[8])
redis.call('SADD', ARGV[18], ARGV[7])  -- a node that was swept for dead may live on
if KEYS[6] then
  redis.call('SET', KEYS[6], '1', 'EX', ARGV[16])
end
if previous_node ~= '' and previous_node ~= ARGV[7] then
  redis.call('SREM', ARGV[6] .. previous_node, ARGV[8])
  -- pcall: who may not publish has to be able to claim. One that hears it lives, whatever became of its lease.
  local heard = redis.pcall('PUBLISH', ARGV[5] .. previous_node,
    '{"type":"session_superseded","chargePointId":' .. ARGV[9] .. ',"nodeId":' .. ARGV[10] .. ',"epoch":' .. text .. '}')
  if type(heard) == 'number' and heard > 0 then
    alive = 1
  end
  if alive == 1 then
    -- Its node is to tell the end. If it dies before it has, whoever sweeps up after it does.
    local taken = ARGV[17] .. previous_node
    redis.call('HSET', taken, string.format('%.0f|%s', previous_epoch, ARGV[8]), previous)
    redis.call('EXPIRE', taken, ARGV[3])
  end
end
return {text, previous, alive, kept}
