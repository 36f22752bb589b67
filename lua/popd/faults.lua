--- Logs what fails in a script's functions: the first of a kind in full, its
-- repeats counted.
--
-- A callback that fails fails for every client, and its traceback would fill the
-- log.  So, once a fault was logged, others like it are only counted for a
-- while (`WINDOW`), and one line tells then how many there were.  Alike are
-- faults of the same callback whose errors differ in addresses and numbers only.
-- @module popd.faults
local core = require("popd.core")

local faults = {}

--- Seconds for which repeats are counted.
faults.WINDOW = 60

local KINDS_MAX = 100 -- counted at one time; what comes above is of one kind
local KEY_MAX = 4096 -- octets of an error that are compared

local MANY = "more kinds of faults than can be told apart"

-- By kind: `text`, `callback`, `error` (its first line), `repeated`, `timer`.
local kinds, count = {}, 0

-- A value as text, whatever it is: a __tostring may raise.
local function show(value)
   local ok, text = pcall(tostring, value)
   return ok and text or "a " .. type(value)
end

-- The same without a __tostring.
local function name(value)
   return (type(value) == "string" or type(value) == "number") and tostring(value) or "a " .. type(value)
end

--- An error's text for the log; of `{ code =, text = }` both.
-- @param err any value
-- @treturn string
function faults.show(err)
   if type(err) == "table" and (rawget(err, "code") or rawget(err, "text")) then
      return name(rawget(err, "code")) .. " " .. name(rawget(err, "text"))
   end
   return show(err)
end

-- What stays of an error when it comes again: not its addresses and numbers, but
-- for those of lines (`store.lua:12:`).
local function kind_of(text, callback, err)
   local same = err:sub(1, KEY_MAX):gsub("0x%x+", "0x"):gsub("(:?)(%d+)(:?)", function(before, _, behind)
      return not (before == ":" and behind == ":") and before .. "#" .. behind or nil
   end)
   return table.concat({ text, callback or "", same }, "\n")
end

local function close(kind)
   local one = kinds[kind]
   kinds[kind], count = nil, count - 1
   if one.repeated > 0 then
      core.log("error", one.text, { callback = one.callback, error = one.error, repeated = one.repeated })
   end
end

local function open(kind, text, callback, err)
   local one = { text = text, callback = callback, error = err:match("^[^\n]*"), repeated = 0 }
   one.timer = core.later(faults.WINDOW, close, kind)
   kinds[kind], count = one, count + 1
end

-- Whether it is to be logged: the first of its kind is.
local function count_in(text, callback, err)
   local kind = kind_of(text, callback, err)
   if not kinds[kind] and count >= KINDS_MAX then
      kind, text, callback, err = MANY, MANY, nil, ""
   end
   if kinds[kind] then
      kinds[kind].repeated = kinds[kind].repeated + 1
      return false
   end
   open(kind, text, callback, err)
   return true
end

--- Logs a fault, or counts it.
-- @string text what happened
-- @string[opt] callback the name of the function that failed
-- @param err what it raised
-- @param[opt] conn the connection that it was called for
function faults.report(text, callback, err, conn)
   err = faults.show(err)
   if not count_in(text, callback, err) then
      return
   end
   local fields = { callback = callback, error = err }
   if conn then
      fields.conn, fields.peer, fields.user = conn.id, conn.remotehost, conn.name
      fields.command = conn.command ~= "" and conn.command or nil
   end
   core.log("error", text, fields)
end

--- Tells what was counted until now; the next fault of each kind is a first one.
function faults.flush()
   for kind, one in pairs(kinds) do
      one.timer:cancel()
      close(kind)
   end
end

core.on_fault(faults.report)

return faults
