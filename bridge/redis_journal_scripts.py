"""What the journal does inside Redis, in Lua: each script is one step that nothing comes between.

Keys, below the cluster's prefix and `journal:`:

    {shard}                      stream, id "position-0": d 16 digits that say the place of the entry, then the entry;
                                 m its mid where that is another
    state                        hash: `last:`, `total:`, `trimmed:` and the shard's number
    shards                       string: how many there are
    ids:{stretch}                hash sender\\0device\\0id -> "mid created", with an expiry: a stretch is half of the
                                 time to remember, and three of them are looked into
    seq:{sender}\\0{device}       hash recipient -> highest seq, with an expiry
    writer:{writer}              string "number answer": the last batch of a writer, with an expiry
    lease:{shard}, storers, accepting      see `redis_journal_leases`
    poison                       stream: d the entry, s its shard, m its mid, r the reason

Each call from a script costs about as much as all that it does, so what several messages need is asked at once.
`last` and the clock give the mids (`journal_numbers.next_mid`). The keys cannot be named beforehand, so these scripts
are not for Redis Cluster. They need Redis 7: whatever only takes entries out must run when memory is full.
"""

from __future__ import annotations

from aldis.bridge.journal_numbers import EPOCH, SLOT
from aldis.bridge.redis_script import script

WRITER_KEPT = 3_600_000
"""Milliseconds for which a writer's last answer is kept: longer than any batch is on its way."""

PLACE = 16
"""Digits in front of an entry that say its place."""

PORTION = 1_000
"""Arguments of one call, about: what the stack of a script holds."""

GROWING = "#!lua\n"
"""Refused as a whole when memory is full."""
SHRINKING = "#!lua flags=allow-oom\n"

COMMON = f"""
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

local function with_place(total, data)
  return string.format('%0{PLACE}.0f', total) .. data
end

local function next_position(last, shard, shards)
  local slot = math.max(clock - {EPOCH}, math.floor(last / {SLOT}) + 1)
  return slot * {SLOT} + shard * math.floor({SLOT} / shards / 2) * 2
end
"""

_IDS = """
local width = math.ceil(remember / 2)
local stretch = math.floor(clock / width)

local function ids(ago)
  return base .. 'ids:' .. text(stretch - ago)
end

local function begin_stretch()
  redis.call('PEXPIRE', ids(0), 4 * width)
  redis.call('UNLINK', ids(3), ids(4), ids(5))  -- to let many ids expire would hold everybody up
end
"""

# ARGV[2] to [8]: writer, number, shards, milliseconds to remember, longest, largest, highest mid that is taken.
# ARGV[9]: for each message shard, sender and device, recipient, created, bytes, id or '', seq or 0; ARGV[10]: all data.
# Answers three numbers for each: mid (-1: full), created, 1 for a repeat.
APPEND = script(
    GROWING,
    COMMON,
    "local remember = tonumber(ARGV[5])",
    _IDS,
    f"""
local number, shards = tonumber(ARGV[3]), tonumber(ARGV[4])
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

local messages, all, from = cmsgpack.unpack(ARGV[9]), ARGV[10], 1
local first, wanted, given, begun = {{}}, {{}}, {{}}, false
for at = 1, #messages, 7 do
  if messages[at + 5] ~= '' then wanted[#wanted + 1] = messages[at + 1] .. '\\0' .. messages[at + 5] end
end
for ago = 0, 2 do
  if #wanted > 0 and redis.call('EXISTS', ids(ago)) == 1 then
    begun = begun or ago == 0
    for at = 1, #wanted, {PORTION} do
      local found = redis.call('HMGET', ids(ago), unpack(wanted, at, math.min(#wanted, at + {PORTION} - 1)))
      for index, value in ipairs(found) do
        if value and not first[wanted[at + index - 1]] then first[wanted[at + index - 1]] = value end
      end
    end
  end
end

local states, counters, answers = {{}}, {{}}, {{}}
local function state_of(shard)
  local state = states[shard]
  if not state then
    local key, name = stream(shard), ':' .. text(shard)
    local kept = redis.call('HMGET', base .. 'state', 'last' .. name, 'total' .. name, 'trimmed' .. name)
    state = {{
      key = key, last = math.max(tonumber(kept[1] or 0), floor), total = tonumber(kept[2] or 0),
      trimmed = tonumber(kept[3] or 0), length = redis.call('XLEN', key),
    }}
    states[shard] = state
  end
  return state
end

local function counter_of(device, recipient)
  local name = device .. '\\0' .. recipient
  local counter = counters[name]
  if not counter then
    local key = base .. 'seq:' .. device
    counter = {{key = key, recipient = recipient, highest = tonumber(redis.call('HGET', key, recipient) or 0)}}
    counters[name] = counter
  end
  return counter
end

local function answer_with(mid, created, repeated)
  local at = #answers
  answers[at + 1], answers[at + 2], answers[at + 3] = mid, created, repeated
end

local function append(shard, device, recipient, created, data, id, seq)
  local name = id ~= '' and device .. '\\0' .. id
  local counter = seq > 0 and counter_of(device, recipient)
  if name then
    if first[name] then
      local mid, at = string.match(first[name], '^(%d+) (%d+)$')
      return answer_with(tonumber(mid), tonumber(at), 1)
    end
  elseif counter and seq <= counter.highest then
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
  local mid = text(state.last)
  redis.call('XADD', state.key, mid .. '-0', 'd', with_place(state.total, data))
  if name then
    local result = mid .. ' ' .. text(created)
    first[name], given[#given + 1], given[#given + 2] = result, name, result
  end
  if counter and seq > counter.highest then counter.highest, counter.raised = seq, true end
  answer_with(state.last, created, 0)
end

for at = 1, #messages, 7 do
  local shard, device, recipient, created, size, id, seq = unpack(messages, at, at + 6)
  append(shard, device, recipient, created, string.sub(all, from, from + size - 1), id, seq)
  from = from + size
end
local changed = {{}}
for shard, state in pairs(states) do
  for name, value in pairs({{last = state.last, total = state.total}}) do
    changed[#changed + 1], changed[#changed + 2] = name .. ':' .. text(shard), text(value)
  end
end
if #changed > 0 then redis.call('HSET', base .. 'state', unpack(changed)) end
for at = 1, #given, {PORTION} do
  redis.call('HSET', ids(0), unpack(given, at, math.min(#given, at + {PORTION} - 1)))
end
if #given > 0 and not begun then begin_stretch() end
for _, counter in pairs(counters) do
  if counter.raised then
    redis.call('HSET', counter.key, counter.recipient, text(counter.highest))
    redis.call('PEXPIRE', counter.key, ARGV[5])
  end
end
local answer = cmsgpack.pack(answers)
redis.call('SET', writer, ARGV[3] .. ' ' .. answer, 'PX', {WRITER_KEPT})
return answer
""",
)

# ARGV[2], [3]: milliseconds to remember, sender and device and id. Answers "mid created", or nothing.
FIND = script(
    "#!lua flags=no-writes\n",
    COMMON,
    "local remember = tonumber(ARGV[2])",
    _IDS,
    """
for ago = 0, 2 do
  local found = redis.call('HGET', ids(ago), ARGV[3])
  if found then return found end
end
return false
""",
)

# ARGV[2] to [4]: milliseconds to remember, sender and device and id, "mid created". What is newest is looked at first.
CORRECT = script(
    GROWING,
    COMMON,
    "local remember = tonumber(ARGV[2])",
    _IDS,
    """
local begun = redis.call('EXISTS', ids(0)) == 1
redis.call('HSET', ids(0), ARGV[3], ARGV[4])
if not begun then begin_stretch() end
return 1
""",
)

# ARGV[2] to [4]: entries, bytes, `PLACE`; then shard and position to go on behind of each. Answers numbers: shard,
# count, and of each entry position, mid, bytes; and all entries as they are kept, one after the other.
READ = script(
    "#!lua flags=no-writes\n",
    COMMON,
    """
local place = tonumber(ARGV[4])
local left, room, shards = tonumber(ARGV[2]), tonumber(ARGV[3]), (#ARGV - 4) / 2
local numbers, kept, goes_on = {}, {}, {}

local function take(shard, count, size)
  local key, counted, begun = stream(tonumber(shard)), #numbers + 2, #kept
  numbers[counted - 1], numbers[counted] = tonumber(shard), 0
  while count > 0 and size > 0 and goes_on[shard] do
    local asked = math.min(count, 32)
    local portion = redis.call('XRANGE', key, goes_on[shard], '+', 'COUNT', asked)
    if #portion < asked then goes_on[shard] = nil end
    for at = 1, #portion do
      local name, fields = portion[at][1], portion[at][2]
      if size <= 0 then
        goes_on[shard] = name
        break
      end
      local position, data, mid = tonumber(string.match(name, '^%d+')), '', nil
      for of = 1, #fields, 2 do
        if fields[of] == 'd' then data = fields[of + 1] elseif fields[of] == 'm' then mid = tonumber(fields[of + 1]) end
      end
      local last = #numbers
      numbers[last + 1], numbers[last + 2], numbers[last + 3] = position, mid or position, #data
      kept[#kept + 1] = data
      local length = math.max(0, #data - place)
      count, size, left, room = count - 1, size - length, left - 1, room - length
      if goes_on[shard] then goes_on[shard] = '(' .. name end
    end
  end
  numbers[counted] = #kept - begun
end

local count, size = math.ceil(left / shards), math.max(1, math.floor(room / shards))
for at = 5, #ARGV, 2 do
  goes_on[ARGV[at]] = '(' .. ARGV[at + 1] .. '-0'
  take(ARGV[at], count, size)
end
for at = 5, #ARGV, 2 do
  if left > 0 and room > 0 and goes_on[ARGV[at]] then take(ARGV[at], left, room) end
end
return {cmsgpack.pack(numbers), table.concat(kept)}
""",
)

# ARGV[2] and on: shard, position, place of each. One script for several shards: each costs Redis a flush.
STORED = script(
    SHRINKING,
    COMMON,
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

# ARGV[2] to [8]: shard, position, mid, place, longest, reason, data. Answers 0 where there is no room.
SET_ASIDE = script(
    SHRINKING,
    COMMON,
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
    COMMON,
    """
local found = redis.call('XRANGE', base .. 'poison', ARGV[2], ARGV[2])
if #found == 0 then return 0 end
local fields = {}
for at = 1, #found[1][2], 2 do fields[found[1][2][at]] = found[1][2][at + 1] end
local shard = tonumber(fields.s)
local position = next_position(math.max(field('last', shard), tonumber(ARGV[4])), shard, tonumber(ARGV[3]))
local total = field('total', shard) + #fields.d
redis.call('XADD', stream(shard), text(position) .. '-0', 'd', with_place(total, fields.d), 'm', fields.m)
redis.call('HSET', base .. 'state', 'last:' .. fields.s, text(position), 'total:' .. fields.s, text(total))
redis.call('XDEL', base .. 'poison', ARGV[2])
return 1
""",
)

# ARGV[2]: shards. Answers entries, bytes, and the oldest position of each.
LENGTHS = script(
    "#!lua flags=no-writes\n",
    COMMON,
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
