--- What unknown users look like: like known ones.
--
-- Whoever tries names must not learn which of them exist, neither from what is
-- answered nor from how long it takes.  So a name that nobody has costs the same
-- hash, and SCRAM goes on to its last step with a salt that is made up but stays
-- the same.  What known users' entries look like is learnt from those that were
-- looked up, for each auth table: what most of them had, since what the last one
-- had would change with each login, and a known user's entry does not.
-- @module popd.nobody
local core = require("popd.core")
local scheme = require("popd.scheme")

local nobody = {}

local SIZES = { ["SHA-1"] = 20, ["SHA-256"] = 32 }
local SALT = 16 -- octets

--- The plain password of a user that is not there.  Any other would do: what comes
-- of it is not looked at.
nobody.PASSWORD = "nobody has this password"

-- auth, as the option has it -> { stored =, scram = { [hash] = } }, of tallies
local seen = setmetatable({}, { __mode = "k" })

-- A tally: how often each label was counted, and the value of the foremost.
local function new_tally()
   return { counts = {} }
end

local function count(tally, label, value)
   local counts = tally.counts
   counts[label] = (counts[label] or 0) + 1
   if not tally.label or label == tally.label or counts[label] > counts[tally.label] then
      tally.label, tally.value = label, value
   end
end

local function seen_of(key)
   local known = seen[key]
   if not known then
      known = { stored = new_tally(), scram = { ["SHA-1"] = new_tally(), ["SHA-256"] = new_tally() } }
      seen[key] = known
   end
   return known
end

--- Learns from a known user's entry.
-- @param key auth, as the option has it
-- @string stored one that popd.scheme understands
-- @string kind what `scheme.kind` says of it
-- @string name its scheme's, which that says too
function nobody.learn(key, stored, kind, name)
   count(seen_of(key).stored, name, kind ~= "plain" and stored or nobody.PASSWORD)
end

-- Read anew each time: popd.passwd changes it.
local function dummy_of(auth)
   return type(auth.dummy) == "string" and auth.dummy or nil
end

--- What to verify a password with that an unknown user gave.
-- @param key auth, as the option has it
-- @tparam table auth
-- @treturn string
function nobody.stored(key, auth)
   return dummy_of(auth) or seen_of(key).stored.value or nobody.PASSWORD
end

--- Learns what SCRAM told of a known user.
-- @param key
-- @string hash
-- @tparam table keys as from `scheme.scram`
-- @bool derived whether they were made of a plain password, which takes its time
function nobody.learn_scram(key, hash, keys, derived)
   local shape = { iterations = keys.iterations, salt = #keys.salt, derived = derived }
   count(seen_of(key).scram[hash], ("%d %d %s"):format(shape.iterations, shape.salt, derived), shape)
end

-- Of auth.dummy, where that is an entry of this SCRAM.
local function shape_of_dummy(auth, hash)
   local dummy = dummy_of(auth) or ""
   local _, name = scheme.kind(dummy)
   local keys = name == "SCRAM-" .. hash and scheme.scram(dummy, hash)
   return keys and { iterations = keys.iterations, salt = #keys.salt, derived = false }
end

local function shape_of(key, auth, hash)
   return shape_of_dummy(auth, hash) or seen_of(key).scram[hash].value
      or { iterations = scheme.SCRAM_ITERATIONS, salt = SALT, derived = (auth.secrets or "plain") == "plain" }
end

-- Of this machine, so that salts stay the same over restarts and are alike in
-- every process; else of this process.
local function machine_key()
   local file = io.open("/etc/machine-id")
   local id = file and file:read("a") or ""
   if file then
      file:close()
   end
   return #id >= 32 and core.hmac("SHA-256", id, "popd.lua: salts of names") or core.random(32)
end

local made_key

local function salt_key(auth)
   made_key = made_key or machine_key()
   return auth.salt_key or made_key
end

--- A name's salt, the same each time, and like a random one to whoever does not
-- have the key.
-- @tparam table auth
-- @string hash
-- @string name
-- @int[opt=16] octets
-- @treturn string
function nobody.salt(auth, hash, name, octets)
   local made, n = "", 0
   octets = octets or SALT
   while #made < octets do
      made, n = made .. core.hmac("SHA-512", salt_key(auth), ("salt %s %d %s"):format(hash, n, name)), n + 1
   end
   return made:sub(1, octets)
end

--- SCRAM's keys for a user that is not there: no proof fits them.  Waits where
-- it would for a known one.
-- @param key auth, as the option has it
-- @tparam table auth
-- @string hash
-- @string name
-- @treturn table as from `scheme.scram`, or nil and a reason
function nobody.scram(key, auth, hash, name)
   local shape = shape_of(key, auth, hash)
   local salt = nobody.salt(auth, hash, name, shape.salt)
   if shape.derived then
      return scheme.scram("{PLAIN}" .. core.base64(core.random(24)), hash, salt, shape.iterations)
   end
   return {
      iterations = shape.iterations, salt = salt,
      stored_key = core.random(SIZES[hash]), server_key = core.random(SIZES[hash]),
   }
end

return nobody
