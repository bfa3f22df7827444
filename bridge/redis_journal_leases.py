"""Who stores which shard of the journal, in Redis. Keys as in `redis_journal_scripts`, and

lease:{shard}                string: the storer, with an expiry
storers, accepting           sorted sets storer -> when (ms) it counts as gone
"""

from __future__ import annotations

from aldis.bridge.redis_journal_scripts import COMMON, SHRINKING
from aldis.bridge.redis_script import script

# ARGV[2] to [6]: storer, its lease in milliseconds, shards, whether its node accepts, whether it stores.
# Answers how many others accept, its surplus, then its shards.
LEASES = script(
    SHRINKING,
    COMMON,
    """
local me, lease, shards = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call(unpack(ARGV[6] == '1' and {'ZADD', base .. 'storers', clock + lease, me} or {'ZREM', base .. 'storers', me}))
if ARGV[5] == '1' then redis.call('ZADD', base .. 'accepting', clock + lease, me) end
redis.call('ZREMRANGEBYSCORE', base .. 'storers', '-inf', clock)
redis.call('ZREMRANGEBYSCORE', base .. 'accepting', '-inf', clock)
redis.call('SET', base .. 'shards', ARGV[4], 'NX')
local kept = redis.call('GET', base .. 'shards')
if kept ~= ARGV[4] then return redis.error_reply('SHARDS the journal has ' .. kept) end
local others = redis.call('ZCARD', base .. 'accepting') - (ARGV[5] == '1' and 1 or 0)
if ARGV[6] ~= '1' then
  for shard = 0, shards - 1 do
    if redis.call('GET', base .. 'lease:' .. shard) == me then redis.call('DEL', base .. 'lease:' .. shard) end
  end
  return {others, 0}
end
local share = math.ceil(shards / redis.call('ZCARD', base .. 'storers'))
local mine, free = {}, {}
for shard = 0, shards - 1 do
  local holder = redis.call('GET', base .. 'lease:' .. shard)
  if holder == me then mine[#mine + 1] = shard elseif not holder then free[#free + 1] = shard end
end
for _, shard in ipairs(free) do
  if #mine < share then mine[#mine + 1] = shard end
end
for _, shard in ipairs(mine) do
  redis.call('SET', base .. 'lease:' .. shard, me, 'PX', lease)
end
return {others, math.max(0, #mine - share), unpack(mine)}
""",
)

# ARGV[2]: storer; ARGV[3]: 1 if it leaves; the rest are shards.
GIVE_UP = script(
    SHRINKING,
    COMMON,
    """
if ARGV[3] == '1' then
  redis.call('ZREM', base .. 'storers', ARGV[2])
  redis.call('ZREM', base .. 'accepting', ARGV[2])
end
for at = 4, #ARGV do
  local key = base .. 'lease:' .. ARGV[at]
  if redis.call('GET', key) == ARGV[2] then redis.call('DEL', key) end
end
return 1
""",
)
