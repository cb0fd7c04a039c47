-- Writes a node's session records again, with a new lastSeenAt and a new lifetime; finds those that are its no more.
--
-- KEYS: per session: record, epoch counter
-- ARGV: 1 seconds a record lives, 2 seconds a counter lives, 3 node id, then per session: record, epoch, connectedAtMs
-- Gives: per session that another connection has: its place (from 1), that connection's record
--
-- A higher epoch wins. Epochs start anew if Redis lost its data; of two records that this brought out of order the
-- later connection wins.

local superseded = {}
for place = 1, #KEYS / 2 do
  local record_key, counter_key = KEYS[2 * place - 1], KEYS[2 * place]
  local ours = ARGV[3 * place + 1]
  local epoch, connected = tonumber(ARGV[3 * place + 2]), tonumber(ARGV[3 * place + 3])
  local current = redis.call('GET', record_key)
  local known, theirs = false, false
  if current then
    local readable, record = pcall(cjson.decode, current)
    if readable and type(record) == 'table' then
      known = record.nodeId == ARGV[3] and record.epoch == epoch
      if not known and type(record.epoch) == 'number' then
        theirs = record.epoch > epoch
          or (type(record.connectedAtMs) == 'number' and record.connectedAtMs > connected)
      end
    end
  end
  if theirs then
    superseded[#superseded + 1] = place
    superseded[#superseded + 1] = current
  else
    redis.call('SET', record_key, ours, 'EX', ARGV[1])
    if not known or redis.call('EXPIRE', counter_key, ARGV[2]) == 0 then
      local counter = tonumber(redis.call('GET', counter_key) or '0') or 0
      if epoch > counter then
        counter = epoch
      end
      redis.call('SET', counter_key, string.format('%.0f', counter), 'EX', ARGV[2])
    end
  end
end
return superseded
