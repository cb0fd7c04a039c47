-- What a handshake has to know, unless its address is banned or connects too often.
--
-- KEYS: 1 identity record, 2 ban of the charge point at the address, 3 ban of the address,
--       4 known pair: the charge point was let in from the address (the ban of the address does not hold for it),
--       5 attempts of the address, 6 attempts of the charge point at the address, 7 revocation of the certificate, if any
-- ARGV: 1 microseconds from one attempt of the address to the next (0: any number), 2 how many of them it may be early,
--       3 and 4 the same for the charge point at the address
-- Gives: {record (or false), 1 if the certificate is revoked (else 0), milliseconds the ban lasts, milliseconds to wait}
--
-- Attempts are counted by GCRA (flood/gcra.py): kept is the moment at which all that were counted have been paid off.

local values = redis.call('MGET', unpack(KEYS))
if values[2] or (values[3] and not values[4]) then
  local left = 1
  for place = 2, values[4] and 2 or 3 do
    left = math.max(left, redis.call('PTTL', KEYS[place]))
  end
  return {false, 0, left, 0}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local paid_off, wait = {}, 0
for place = 1, 2 do
  local step, early = tonumber(ARGV[2 * place - 1]), tonumber(ARGV[2 * place])
  if step > 0 then
    -- Never further off than it can have got: the clock may have been set back.
    local before = math.min(math.max(tonumber(values[4 + place] or '') or now, now), now + early + step)
    paid_off[place] = before + step
    wait = math.max(wait, before - early - now)
  end
end
if wait > 0 then
  return {false, 0, 0, math.ceil(wait / 1000)}
end
for place = 1, 2 do
  local moment = paid_off[place]
  if moment then
    redis.call('SET', KEYS[4 + place], string.format('%.0f', moment), 'PX', math.ceil((moment - now) / 1000))
  end
end
return {values[1], values[7] and 1 or 0, 0, 0}
