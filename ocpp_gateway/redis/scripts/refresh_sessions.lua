-- Writes a node's session records again, with a new lastSeenAt and a new lifetime; finds those that are its no more.
--
-- KEYS: per session: record, epoch counter, security profile of the last session; then the charge points of our node, and what others
--       have taken from it (claim_session)
-- ARGV: 1 seconds a record lives, 2 seconds a counter lives, 3 node id,
--       then per session: record, epoch, connectedAtMs, security profile, charge point id
-- Gives: per session that another connection has: its place (from 1), that connection's record; then the places of the
--        sessions whose records were not there
--
-- A higher epoch wins. Epochs start anew if Redis lost its data; of two records that this brought out of order the
-- later connection wins. A security profile that Redis lost, or missed, is kept again.

local superseded, restored, ours_still = {}, {}, {}
for place = 1, (#KEYS - 2) / 3 do
  local record_key, counter_key, profile_key = KEYS[3 * place - 2], KEYS[3 * place - 1], KEYS[3 * place]
  local ours, profile = ARGV[5 * place - 1], ARGV[5 * place + 2]
  local epoch, connected = tonumber(ARGV[5 * place]), tonumber(ARGV[5 * place + 1])
  local current = redis.call('MGET', record_key)[1]
  local known, theirs, elsewhere = false, false, false
  if current then
    local readable, record = pcall(cjson.decode, current)
    if readable and type(record) == 'table' then
      known = record.nodeId == ARGV[3] and record.epoch == epoch
      if not known and type(record.epoch) == 'number' then
        theirs = record.epoch > epoch
          or (type(record.connectedAtMs) == 'number' and record.connectedAtMs > connected)
        elsewhere = record.nodeId ~= ARGV[3]
      end
    end
  end
  if theirs then
    superseded[#superseded + 1] = place
    superseded[#superseded + 1] = current
    if elsewhere then
      redis.call('SREM', KEYS[#KEYS - 1], ARGV[5 * place + 3])
    end
  else
    ours_still[#ours_still + 1] = ARGV[5 * place + 3]
    redis.call('SET', record_key, ours, 'EX', ARGV[1])
    if redis.call('MGET', profile_key)[1] ~= profile then
      redis.call('SET', profile_key, profile)
    end
    if not known then
      restored[#restored + 1] = place
      redis.call('HDEL', KEYS[#KEYS], string.format('%.0f|%s', epoch, ARGV[5 * place + 3]))
    end
    if not known or redis.call('EXPIRE', counter_key, ARGV[2]) == 0 then
      local counter = tonumber(redis.call('MGET', counter_key)[1] or '0') or 0
      if epoch > counter then
        counter = epoch
      end
      redis.call('SET', counter_key, string.format('%.0f', counter), 'EX', ARGV[2])
    end
  end
end
if #ours_still > 0 then
  redis.call('SADD', KEYS[#KEYS - 1], unpack(ours_still))
end
return { superseded, restored }
