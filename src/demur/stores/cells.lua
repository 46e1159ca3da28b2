-- The operations of flow/ledger.py on hashes, one a cell; memory.py does the same in Python.
-- ARGV[1]: the time in seconds, or '' for the server's own. ARGV[2]: operations as JSON.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local SLOTS = tonumber(ARGV[3])

local function text(seconds) return string.format('%.6f', seconds) end

local function mark_of(key)
  local found = redis.call('HMGET', key, 'mark', 'until')
  if found[1] and now < tonumber(found[2]) then return found[1] end
  return false
end

local function set_mark(key, mark, seconds)
  redis.call('HSET', key, 'mark', mark, 'until', text(now + seconds))
end

-- A cell lives as long as what it holds: as long again as anybody may still ask for it.
local function live(key, seconds)
  local wanted = math.ceil(seconds * 1000)
  if redis.call('PTTL', key) < wanted then redis.call('PEXPIRE', key, wanted) end
end

local function slot_of(window) return math.floor(now / (window / SLOTS)) end

local function sums(key, window)
  local found = {}
  if window == 0 then return found end
  local first = slot_of(window) - SLOTS
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local slot, name = string.match(all[i], '^s:(-?%d+):(.+)$')
    if slot and tonumber(slot) > first then
      found[name] = (found[name] or 0) + tonumber(all[i + 1])
    end
  end
  return found
end

local function forget(key, first)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local slot = string.match(field, '^s:(-?%d+):')
    if slot and tonumber(slot) <= first then redis.call('HDEL', key, field) end
  end
end

local function add(key, window, name, amount)
  local slot = slot_of(window)
  local field = string.format('s:%d:%s', slot, name)
  if redis.call('HEXISTS', key, field) == 0 then forget(key, slot - SLOTS) end
  redis.call('HINCRBYFLOAT', key, field, string.format('%.9f', amount))
  live(key, window * 2)
end

local function fits(cell, name)
  local found = sums(cell.key, cell.window)
  for limited, most in pairs(cell.limits) do
    local amount = found[limited] or 0
    if limited == name and amount + 1 > most then return false end
    if limited ~= name and amount >= most then return false end
  end
  return true
end

local doing = {}

function doing.look(op)
  local amounts = sums(op.key, op.window)
  return { mark_of(op.key), next(amounts) and amounts or false }
end

function doing.swap(op)
  if mark_of(op.key) ~= (op.old or false) then return false end
  if op.clear then forget(op.key, math.huge) end
  set_mark(op.key, op.new, op.seconds)
  live(op.key, op.seconds)
  return true
end

function doing.put(op)
  set_mark(op.key, op.mark, op.seconds)
  live(op.key, op.seconds)
  return false
end

function doing.add(op)
  if op.guarded and mark_of(op.key) ~= (op.mark or false) then return false end
  for name, amount in pairs(op.amounts) do add(op.key, op.window, name, amount) end
  return false
end

function doing.reserve(op)
  for _, cell in ipairs(op.allowances) do
    if not fits(cell, op.name) then return false end
  end
  for _, cell in ipairs(op.allowances) do add(cell.key, cell.window, op.name, 1) end
  return true
end

local told = {}
for place, op in ipairs(cjson.decode(ARGV[2])) do told[place] = doing[op.what](op) end
return { text(now), cjson.encode(told) }
