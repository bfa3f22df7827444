"""What the user status does inside Redis, in Lua: each script is one step that nothing comes between.

Keys, below the cluster's prefix:

    {prefix}:node:{node}                 string "incarnation grant process", with an expiry: the lease
    {prefix}:nodes                       hash "node incarnation" -> when (us) it was first seen without a lease, 0 never
    {prefix}:user:{user}                 hash device -> "node incarnation turn present": who holds it
    {prefix}:held:{node}:{incarnation}   set of "length:user" + device: what this process holds, for the removal
    {prefix}:left                        sorted set user -> turn: lost a connection by a death, not yet told
    {prefix}:sweeping                    string "node incarnation", with an expiry: who removes and tells now
    {prefix}:turn                        string: the highest number given out

Turns, incarnations and grants come from one counter, which is never behind the server's clock in microseconds, nor
behind what the asking node has seen: so it rises even when everything was lost. A *grant* is one taking of a lease; a
node that finds another one than it knew has lost everything in between, even if the answer to that taking was lost.

What a process without a lease has left never counts. It waits `grace` before it is removed: after an outage of Redis
all leases have run out, and those who live must have the time to say so.

The keys of a user cannot be named beforehand, so these scripts are not for Redis Cluster. They need Redis 5 (they write
after TIME) or what is compatible.
"""

from __future__ import annotations

from aldis.bridge.redis_script import script

# Packs and finds: the prefix is always ARGV[1].
READING = """
local prefix = ARGV[1]
local leases = {}

local function lease_of(node)
  local known = leases[node]
  if known == nil then
    local value = redis.call('GET', prefix .. ':node:' .. node)
    known = value and string.match(value, '^%d+') or false
    leases[node] = known
  end
  return known
end

local function user_key(user)
  return prefix .. ':user:' .. user
end

local function unpack_entry(entry)
  return string.match(entry, '^(%S+) (%d+) (%d+) (%d)$')
end

local function is_present(user)
  for _, entry in ipairs(redis.call('HVALS', user_key(user))) do
    local node, incarnation, _, present = unpack_entry(entry)
    if present == '1' and lease_of(node) == incarnation then return true end
  end
  return false
end
"""

# ARGV[2] to [6]: node, its incarnation (0: not known yet), lease in milliseconds, highest number it has seen, and what
# tells this process from others of its name. By that an answer that was lost, or a script that Redis runs late, after
# it stood still, does not make a process its own successor.
WRITING = """
local me, incarnation, lease = ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', prefix .. ':turn') or 0)
local turn = math.max(last, now, tonumber(ARGV[5]))

local function text(number)
  return string.format('%.0f', number)
end

local function next_turn()
  turn = turn + 1
  return text(turn)
end

local function keep_turn()
  if turn > last then redis.call('SET', prefix .. ':turn', text(turn)) end
end

local function held_key(node, of)
  return prefix .. ':held:' .. node .. ':' .. of
end

local function held_name(user, device)
  return #user .. ':' .. user .. device
end

local function split_held(name)
  local length, rest = string.match(name, '^(%d+):(.*)$')
  length = tonumber(length)
  return string.sub(rest, 1, length), string.sub(rest, length + 1)
end

local function hold(user, device, its_turn, present)
  redis.call('HSET', user_key(user), device, me .. ' ' .. incarnation .. ' ' .. its_turn .. ' ' .. present)
  redis.call('SADD', held_key(me, incarnation), held_name(user, device))
end

local function let_go(user, device, node, of)
  redis.call('SREM', held_key(node, of), held_name(user, device))
end

-- Extends the lease, or takes it: a new process, a lease that ran out, an older process of the same name.
-- The grant, or false where a younger process has the name.
local function admit()
  local key = prefix .. ':node:' .. me
  local holder, grant, process
  local value = redis.call('GET', key)
  if value then holder, grant, process = string.match(value, '^(%d+) (%d+) (%x+)$') end
  if incarnation == '0' and process == ARGV[6] then
    incarnation = holder
  end
  if incarnation == '0' then
    turn = math.max(turn, tonumber(holder or 0))
    incarnation = next_turn()
  elseif holder == incarnation then
    redis.call('PEXPIRE', key, lease)
    return grant
  elseif holder and tonumber(holder) > tonumber(incarnation) then
    return false
  end
  grant = next_turn()
  redis.call('SET', key, incarnation .. ' ' .. grant .. ' ' .. ARGV[6], 'PX', lease)
  redis.call('HSET', prefix .. ':nodes', me .. ' ' .. incarnation, 0)
  leases[me] = incarnation
  return grant
end
"""

# ARGV[7]: user, device, turn (0: a new arrival), present (1 or 0), and so on. A holding whose device came later to
# another living node changes nothing. Answers the grant, then for each the turn that stands, by whom, whether no device
# of the user was there before, and by whom and under which turn this one was held until now.
# [8]: by when, in microseconds of Redis' clock. Who stood still, Redis or the way to it, must not do late what nobody
# waits for any more: it would take the device from where it has gone in the meantime. Answers 0 then.
HOLD = script(
    READING,
    WRITING,
    """
if now > tonumber(ARGV[8]) then return 0 end
local grant = admit()
if not grant then return false end
local asked = cmsgpack.unpack(ARGV[7])
local answer = {tonumber(grant)}
for i = 1, #asked, 4 do
  local user, device, its_turn, present = asked[i], asked[i + 1], asked[i + 2], asked[i + 3]
  local found = redis.call('HGETALL', user_key(user))
  local first, holder, holder_incarnation, before, before_turn = true, false, false, '', 0
  for j = 1, #found, 2 do
    local node, of, held_turn, is_there = unpack_entry(found[j + 1])
    local lives = lease_of(node) == of
    if lives and is_there == '1' then first = false end
    if found[j] == device then
      holder, holder_incarnation = node, of
      turn = math.max(turn, tonumber(held_turn))
      if lives then before, before_turn = node, tonumber(held_turn) end
    end
  end
  local stands, later = me, before_turn > its_turn and its_turn > 0 and before ~= me
  if its_turn == 0 then
    its_turn = tonumber(next_turn())
  elseif later then
    stands, its_turn = before, before_turn
  else
    turn = math.max(turn, its_turn)
  end
  if before_turn == its_turn then before, before_turn = '', 0 end
  if not later then
    if holder and (holder ~= me or holder_incarnation ~= incarnation) then
      let_go(user, device, holder, holder_incarnation)
    end
    hold(user, device, text(its_turn), present)
  end
  for _, value in ipairs({its_turn, stands, first, before, before_turn}) do answer[#answer + 1] = value end
end
keep_turn()
return cmsgpack.pack(answer)
""",
)

# ARGV[7]: user, device, turn, whether the asking node is the one that held it, and so on; [8]: away or offline. What
# this very process has said of the device under a lower turn is outdated, and goes with it. Answers the grant (0 for a
# process that has lost its name), then for each what the Protocol promises.
RELEASE = script(
    READING,
    WRITING,
    """
local grant = admit()
local asked = cmsgpack.unpack(ARGV[7])
local answer = {tonumber(grant or 0)}
for i = 1, #asked, 4 do
  local user, device, its_turn, ours = asked[i], asked[i + 1], asked[i + 2], asked[i + 3]
  local key = user_key(user)
  local changed, others = false, false
  local found = redis.call('HGETALL', key)
  for j = 1, #found, 2 do
    local node, of, held_turn, present = unpack_entry(found[j + 1])
    local counts = present == '1' and lease_of(node) == of
    local outdated = ours and node == me and of == incarnation and tonumber(held_turn) < its_turn
    if found[j] ~= device or held_turn ~= text(its_turn) and not outdated then
      others = others or counts
    else
      changed = counts
      if ARGV[8] == 'away' then
        redis.call('HSET', key, device, node .. ' ' .. of .. ' ' .. text(its_turn) .. ' 0')
      else
        redis.call('HDEL', key, device)
        let_go(user, device, node, of)
      end
    end
  end
  answer[#answer + 1] = not others and (changed or ARGV[8] == 'away')
end
keep_turn()
return cmsgpack.pack(answer)
""",
)

# ARGV[2]: users. Answers one line for each: the nodes, sorted, with spaces between.
CONNECTORS = script(
    READING,
    """
local lines = {}
for i, user in ipairs(cmsgpack.unpack(ARGV[2])) do
  local nodes, seen = {}, {}
  for _, entry in ipairs(redis.call('HVALS', user_key(user))) do
    local node, incarnation = unpack_entry(entry)
    if not seen[node] and lease_of(node) == incarnation then
      seen[node] = true
      nodes[#nodes + 1] = node
    end
  end
  if #nodes > 1 then table.sort(nodes) end
  lines[i] = table.concat(nodes, ' ')
end
return table.concat(lines, '\\n')
""",
)

# ARGV[2]: users. Answers one character for each: 1 if present.
PRESENT = script(
    READING,
    """
local signs = {}
for i, user in ipairs(cmsgpack.unpack(ARGV[2])) do
  signs[i] = is_present(user) and '1' or '0'
end
return table.concat(signs)
""",
)

# Renews the lease; then, if nobody else does, removes a portion of what the dead have left, forgets those who were told
# and answers whom to tell next. ARGV[7]: (user, turn) that were told; [8] portion; [9] grace in microseconds; [10] how
# long others keep off, in milliseconds. Answers incarnation, grant, whether there is more to do, the time in
# microseconds, then (user, turn).
TEND = script(
    READING,
    WRITING,
    """
local grant = admit()
if not grant then return false end
local lock, mine = prefix .. ':sweeping', me .. ' ' .. incarnation
local left, portion = prefix .. ':left', tonumber(ARGV[8])
local answer = {tonumber(incarnation), tonumber(grant), false, now}
local sweeper = redis.call('GET', lock)
if sweeper and sweeper ~= mine then
  keep_turn()
  return cmsgpack.pack(answer)
end

local told = cmsgpack.unpack(ARGV[7])
for i = 1, #told, 2 do
  local since = redis.call('ZSCORE', left, told[i])
  if since and tonumber(since) == told[i + 1] then redis.call('ZREM', left, told[i]) end
end

local function remove(user, name)
  local key, lost = user_key(user), false
  local found = redis.call('HGETALL', key)
  for j = 1, #found, 2 do
    local node, of, _, present = unpack_entry(found[j + 1])
    if node .. ' ' .. of == name then
      redis.call('HDEL', key, found[j])
      let_go(user, found[j], node, of)
      lost = lost or present == '1'
    end
  end
  if lost then redis.call('ZADD', left, next_turn(), user) end
end

local known = redis.call('HGETALL', prefix .. ':nodes')
for i = 1, #known, 2 do
  local name, since = known[i], tonumber(known[i + 1])
  local node, of = string.match(name, '^(%S+) (%d+)$')
  local holder = lease_of(node)
  if not holder and since == 0 then
    redis.call('HSET', prefix .. ':nodes', name, text(now))
  elseif holder ~= of and (holder or now - since >= tonumber(ARGV[9])) then
    local held = held_key(node, of)
    local names = portion > 0 and redis.call('SRANDMEMBER', held, portion) or {}
    portion = portion - #names
    for _, each in ipairs(names) do
      local user, device = split_held(each)
      remove(user, name)
      redis.call('SREM', held, each)
    end
    if redis.call('EXISTS', held) == 1 then
      answer[3] = true
    else
      redis.call('HDEL', prefix .. ':nodes', name)
    end
  end
end

local waiting = redis.call('ZRANGE', left, 0, tonumber(ARGV[8]) - 1, 'WITHSCORES')
for i = 1, #waiting, 2 do
  if is_present(waiting[i]) then
    redis.call('ZREM', left, waiting[i])
  else
    answer[#answer + 1] = waiting[i]
    answer[#answer + 1] = tonumber(waiting[i + 1])
  end
end
answer[3] = answer[3] or #waiting > 0
if answer[3] then
  redis.call('SET', lock, mine, 'PX', ARGV[10])
elseif sweeper then
  redis.call('DEL', lock)
end
keep_turn()
return cmsgpack.pack(answer)
""",
)

# Gives the lease up. What the process holds counts no more from now on, and whoever tends next removes it.
LEAVE = script(
    READING,
    WRITING,
    """
local name = me .. ' ' .. incarnation
if lease_of(me) == incarnation then redis.call('DEL', prefix .. ':node:' .. me) end
if redis.call('HEXISTS', prefix .. ':nodes', name) == 1 then redis.call('HSET', prefix .. ':nodes', name, 1) end
if redis.call('GET', prefix .. ':sweeping') == name then redis.call('DEL', prefix .. ':sweeping') end
return 1
""",
)
