"""What the journal does inside Redis, in Lua: each script is one step that nothing comes between.

Keys, below the cluster's prefix and `journal:`:

    {shard}                      stream, id "position-0": d the entry, p its place, m its mid where that is another
    state                        hash: `last:`, `total:`, `trimmed:` and the shard's number
    shards                       string: how many there are
    id:{sender}\\0{device}\\0{id}   string "mid created", with an expiry
    seq:{sender}\\0{device}       hash recipient -> highest seq, with an expiry
    writer:{writer}              string "number answer": the last batch of a writer, with an expiry
    lease:{shard}                string: the storer, with an expiry
    storers, accepting           sorted sets storer -> when (ms) it counts as gone
    poison                       stream: d the entry, s its shard, m its mid, r the reason

`last` and the clock give the mids (`journal_numbers.next_mid`). The keys cannot be named beforehand, so these scripts
are not for Redis Cluster. They need Redis 7: whatever only takes entries out must run when memory is full.
"""

from __future__ import annotations

from aldis.bridge.journal_numbers import EPOCH, SLOT
from aldis.bridge.redis_script import script

WRITER_KEPT = 3_600_000
"""Milliseconds for which a writer's last answer is kept: longer than any batch is on its way."""

GROWING = "#!lua\n"
"""Refused as a whole when memory is full."""
SHRINKING = "#!lua flags=allow-oom\n"

_COMMON = f"""
local base = ARGV[1] .. ':journal:'
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function stream(shard)
  return base .. text(shard)
end

local function field(name, shard)
  return tonumber(redis.call('HGET', base .. 'state', name .. ':' .. text(shard)) or 0)
end

local function next_position(last, shard, shards)
  local slot = math.max(clock - {EPOCH}, math.floor(last / {SLOT}) + 1)
  return slot * {SLOT} + shard * math.floor({SLOT} / shards / 2) * 2
end
"""

# ARGV[2] to [8]: writer, number, shards, milliseconds to remember, longest, largest, highest mid that is taken.
# ARGV[9]: for each message shard, sender and device, recipient, created, bytes, id or '', seq or 0; ARGV[10]: all data.
# Answers three numbers for each: mid (-1: full), created, 1 for a repeat.
APPEND = script(
    GROWING,
    _COMMON,
    f"""
local number, shards, remember = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local longest, largest, floor = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local writer = base .. 'writer:' .. ARGV[2]
local known = redis.call('GET', writer)
if known then
  local before, answer = string.match(known, '^(%d+) (.*)$')
  before = tonumber(before)
  if before == number then
    -- a write, so that WAIT has something to wait for
    redis.call('PEXPIRE', writer, {WRITER_KEPT})
    return answer
  end
  if before > number then return redis.error_reply('LATE batch ' .. ARGV[3] .. ' after ' .. text(before)) end
end

local states, answers = {{}}, {{}}
local function state_of(shard)
  local state = states[shard]
  if not state then
    state = {{
      last = math.max(field('last', shard), floor), total = field('total', shard),
      trimmed = field('trimmed', shard), length = redis.call('XLEN', stream(shard)),
    }}
    states[shard] = state
  end
  return state
end

local function answer_with(mid, created, repeated)
  local at = #answers
  answers[at + 1], answers[at + 2], answers[at + 3] = mid, created, repeated
end

local function append(shard, device, recipient, created, data, id, seq)
  local id_key, seq_key = base .. 'id:' .. device .. '\\0' .. id, base .. 'seq:' .. device
  local highest = seq > 0 and tonumber(redis.call('HGET', seq_key, recipient) or 0) or 0
  if id ~= '' then
    local first = redis.call('GET', id_key)
    if first then
      local mid, at = string.match(first, '^(%d+) (%d+)$')
      return answer_with(tonumber(mid), tonumber(at), 1)
    end
  elseif seq > 0 and seq <= highest then
    return answer_with(0, 0, 1)
  end
  local state = state_of(shard)
  if state.full or state.length >= longest or state.total - state.trimmed + #data > largest then
    state.full = true
    return answer_with(-1, 0, 0)
  end
  state.last = next_position(state.last, shard, shards)
  state.total = state.total + #data
  state.length = state.length + 1
  redis.call('XADD', stream(shard), text(state.last) .. '-0', 'd', data, 'p', text(state.total))
  if id ~= '' then redis.call('SET', id_key, text(state.last) .. ' ' .. text(created), 'PX', remember) end
  if seq > highest then
    redis.call('HSET', seq_key, recipient, text(seq))
    redis.call('PEXPIRE', seq_key, remember)
  end
  answer_with(state.last, created, 0)
end

local messages, all, from = cmsgpack.unpack(ARGV[9]), ARGV[10], 1
for at = 1, #messages, 7 do
  local shard, device, recipient, created, size, id, seq = unpack(messages, at, at + 6)
  append(shard, device, recipient, created, string.sub(all, from, from + size - 1), id, seq)
  from = from + size
end
for shard, state in pairs(states) do
  local last, total = 'last:' .. text(shard), 'total:' .. text(shard)
  redis.call('HSET', base .. 'state', last, text(state.last), total, text(state.total))
end
local answer = cmsgpack.pack(answers)
redis.call('SET', writer, ARGV[3] .. ' ' .. answer, 'PX', {WRITER_KEPT})
return answer
""",
)

# ARGV[2] to [5]: shard, position to go on behind, entries, bytes. Answers position, mid, place, data of each.
READ = script(
    "#!lua flags=no-writes\n",
    _COMMON,
    """
local key, from, left, size = stream(tonumber(ARGV[2])), '(' .. ARGV[3] .. '-0', tonumber(ARGV[4]), tonumber(ARGV[5])
local found = {}
while left > 0 and size > 0 do
  local portion = redis.call('XRANGE', key, from, '+', 'COUNT', math.min(left, 32))
  for _, entry in ipairs(portion) do
    if size <= 0 then return found end
    local fields = {}
    for at = 1, #entry[2], 2 do fields[entry[2][at]] = entry[2][at + 1] end
    local position = string.match(entry[1], '^%d+')
    local data = fields.d or ''
    for _, value in ipairs({position, fields.m or position, fields.p or '0', data}) do found[#found + 1] = value end
    size, left, from = size - #data, left - 1, '(' .. entry[1]
  end
  if #portion < 32 then break end
end
return found
""",
)

# ARGV[2] and on: shard, position, place of each. One script for several shards: each costs Redis a flush.
STORED = script(
    SHRINKING,
    _COMMON,
    """
for at = 2, #ARGV, 3 do
  local shard, place = tonumber(ARGV[at]), ARGV[at + 2]
  redis.call('XTRIM', stream(shard), 'MINID', '=', ARGV[at + 1] .. '-1')
  if tonumber(place) > field('trimmed', shard) then
    redis.call('HSET', base .. 'state', 'trimmed:' .. text(shard), place)
  end
end
return 1
""",
)

# ARGV[2] to [6]: storer, its lease in milliseconds, shards, whether its node accepts, whether it renews at all.
# Answers how many others accept, its surplus, then its shards.
LEASES = script(
    SHRINKING,
    _COMMON,
    """
local me, lease, shards = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZADD', base .. 'storers', clock + lease, me)
if ARGV[5] == '1' then redis.call('ZADD', base .. 'accepting', clock + lease, me) end
redis.call('ZREMRANGEBYSCORE', base .. 'storers', '-inf', clock)
redis.call('ZREMRANGEBYSCORE', base .. 'accepting', '-inf', clock)
redis.call('SET', base .. 'shards', ARGV[4], 'NX')
local kept = redis.call('GET', base .. 'shards')
if kept ~= ARGV[4] then return redis.error_reply('SHARDS the journal has ' .. kept) end
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
local others = redis.call('ZCARD', base .. 'accepting') - (ARGV[5] == '1' and 1 or 0)
return {others, math.max(0, #mine - share), unpack(mine)}
""",
)

# ARGV[2]: storer; ARGV[3]: 1 if it leaves; the rest are shards.
GIVE_UP = script(
    SHRINKING,
    _COMMON,
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

# ARGV[2] to [8]: shard, position, mid, place, longest, reason, data. Answers 0 where there is no room.
SET_ASIDE = script(
    SHRINKING,
    _COMMON,
    """
local shard = tonumber(ARGV[2])
if redis.call('XLEN', base .. 'poison') >= tonumber(ARGV[6]) then return 0 end
if redis.call('XDEL', stream(shard), ARGV[3] .. '-0') == 1 then
  redis.call('XADD', base .. 'poison', '*', 's', ARGV[2], 'm', ARGV[4], 'r', ARGV[7], 'd', ARGV[8])
  if tonumber(ARGV[5]) > field('trimmed', shard) then
    redis.call('HSET', base .. 'state', 'trimmed:' .. ARGV[2], ARGV[5])
  end
end
return 1
""",
)

# ARGV[2] to [4]: its number, shards, highest mid that is taken. Answers 0 where there is none.
PUT_BACK = script(
    GROWING,
    _COMMON,
    """
local found = redis.call('XRANGE', base .. 'poison', ARGV[2], ARGV[2])
if #found == 0 then return 0 end
local fields = {}
for at = 1, #found[1][2], 2 do fields[found[1][2][at]] = found[1][2][at + 1] end
local shard = tonumber(fields.s)
local position = next_position(math.max(field('last', shard), tonumber(ARGV[4])), shard, tonumber(ARGV[3]))
local total = field('total', shard) + #fields.d
redis.call('XADD', stream(shard), text(position) .. '-0', 'd', fields.d, 'p', text(total), 'm', fields.m)
redis.call('HSET', base .. 'state', 'last:' .. fields.s, text(position), 'total:' .. fields.s, text(total))
redis.call('XDEL', base .. 'poison', ARGV[2])
return 1
""",
)

# ARGV[2]: shards. Answers entries, bytes, and the oldest position of each.
LENGTHS = script(
    "#!lua flags=no-writes\n",
    _COMMON,
    """
local found = {}
for shard = 0, tonumber(ARGV[2]) - 1 do
  local first = redis.call('XRANGE', stream(shard), '-', '+', 'COUNT', 1)
  found[#found + 1] = redis.call('XLEN', stream(shard))
  found[#found + 1] = text(field('total', shard) - field('trimmed', shard))
  found[#found + 1] = first[1] and string.match(first[1][1], '^%d+') or '0'
end
return found
""",
)
