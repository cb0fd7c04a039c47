-- What the scripts about commands share: it is put before each of them (commands.py), and does nothing by itself.
--
-- KEYS: those of the script
-- ARGV: those of the script
-- Gives: nothing
--
-- A record is the hash command-idempotency:{commandId}. Its fields: state, source, chargePointId, past (sources of
-- earlier rounds), refused (sources of duplicates), sentBy, sentBorn, epoch, messageId, finalBy, finalBorn, finalAtMs,
-- eventId, key, value, headers, retryable, summary, and of one that is parked: command, parkedUntil. The key of a
-- record that is parked does not expire. That of any other lives until nothing can be sent any more, and then some:
-- lives is the seconds of that.

local function kind_of(key)
  return redis.call('TYPE', key).ok
end

-- 'open', 'sent', 'final' or 'done'; 'missing', or 'foreign' for what is no record of ours.
local function stage_of(key)
  local kind = kind_of(key)
  if kind == 'none' then
    return 'missing'
  end
  local stage = kind == 'hash' and redis.call('HGET', key, 'state')
  if stage == 'open' or stage == 'sent' or stage == 'final' or stage == 'done' then
    return stage
  end
  return 'foreign'
end

local function is_parked(key)
  return redis.call('HEXISTS', key, 'parkedUntil') == 1
end

-- Lets a key live for so many seconds at least.
local function keep(key, seconds)
  if redis.call('TTL', key) < tonumber(seconds) then
    redis.call('EXPIRE', key, seconds)
  end
end

-- Of a record that is no longer just open: how long it lives, or when the sweep is to look after it.
local function move_on(key, deadlines_key, command_id, lives, look_at_ms)
  if not is_parked(key) then
    keep(key, lives)
  elseif kind_of(deadlines_key) == 'zset' or kind_of(deadlines_key) == 'none' then
    redis.call('ZADD', deadlines_key, look_at_ms, command_id)
  end
end

local function decoded(text)
  local readable, members = pcall(cjson.decode, text or '')
  return readable and type(members) == 'table' and members or {}
end

local function text_of(value)
  return type(value) == 'string' and value or ''
end

-- Who has a charge point: {node id, startedAt of its lease, epoch, version}; false if it is connected to nobody alive.
local function owner_of(record_key, lease_prefix)
  local record = decoded(redis.call('MGET', record_key)[1])
  if type(record.nodeId) ~= 'string' then
    return false
  end
  local lease = redis.call('MGET', lease_prefix .. record.nodeId)[1]
  if not lease then
    return false
  end
  local epoch = record.epoch
  if not (type(epoch) == 'number' and epoch >= 0 and epoch < 2 ^ 53) then
    epoch = 0
  end
  return {record.nodeId, text_of(decoded(lease).startedAt), string.format('%.0f', epoch), text_of(record.ocppVersion)}
end

