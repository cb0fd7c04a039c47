-- Counts a failed authentication, and bans who has too many.
--
-- KEYS: per subject, the widest last: failures, bans so far, ban
-- ARGV: 1 milliseconds in which failures are counted, 2 milliseconds of the first ban, 3 of the longest,
--       4 milliseconds for which an ended ban makes the next one longer,
--       then per subject: failures until a ban (0: none), beginning of the ban as JSON (an object without its end)
-- Gives: the widest ban that was written, as it is stored (or false)

-- RFC 3339, of milliseconds since 1970 (Gregorian calendar, with years that begin in March: leap days come last).
local function date(milliseconds)
  local floor = math.floor
  local seconds = floor(milliseconds / 1000)
  local days = floor(seconds / 86400) + 719468
  local day = days % 146097
  local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
  day = day - 365 * year - floor(year / 4) + floor(year / 100)
  local month = floor((5 * day + 2) / 153)
  day = day - floor((153 * month + 2) / 5) + 1
  year = year + 400 * floor(days / 146097)
  if month >= 10 then
    year, month = year + 1, month - 12
  end
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month + 3, day,
    floor(seconds / 3600) % 24, floor(seconds / 60) % 60, seconds % 60, milliseconds % 1000)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local written = false
for place = 1, #KEYS / 3 do
  local failures, bans, ban = KEYS[3 * place - 2], KEYS[3 * place - 1], KEYS[3 * place]
  local limit = tonumber(ARGV[3 + 2 * place])
  -- What was under way when the ban began does not count towards the next.
  if limit > 0 and redis.call('EXISTS', ban) == 0 then
    local count = redis.call('INCR', failures)
    if count == 1 then
      redis.call('PEXPIRE', failures, ARGV[1])
    end
    if count >= limit then
      local length = math.min(tonumber(ARGV[2]) * 2 ^ (redis.call('INCR', bans) - 1), tonumber(ARGV[3]))
      written = ARGV[4 + 2 * place]
        .. string.format(',"count":%.0f,"bannedAt":"%s","until":"%s"}', count, date(now), date(now + length))
      redis.call('SET', ban, written, 'PX', length)
      redis.call('PEXPIRE', bans, length + tonumber(ARGV[4]))
      redis.call('DEL', failures)
    end
  end
end
return written
