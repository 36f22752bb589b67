--- Stands between a server and a storage: records what is asked and answered,
-- and tells which answers are none.
-- @module popd.witness
local ask_module = require("popd.ask")
local holders = require("popd.holders")

local witness = {}

local OPERATIONS = { "lock", "unlock", "renew", "stat", "size", "scan", "uidl", "get", "top", "dele" }

-- Showing -------------------------------------------------------------------

local function shown_list(list)
   local parts = {}
   for i, value in ipairs(list) do
      if i > 10 then
         parts[i] = "…"
         break
      end
      parts[i] = witness.show(value)
   end
   return "{ " .. table.concat(parts, ", ") .. " }"
end

--- A value as a script's author would write it.
-- @param value
-- @treturn string
function witness.show(value)
   if type(value) == "string" then
      return #value > 80 and ("a string of %d octets"):format(#value) or ("%q"):format(value):gsub("\n", "n")
   elseif type(value) == "table" and type(value.path) == "string" then
      local length = value.length and (", length = %s"):format(ask_module.show(value.length)) or ""
      return ("{ path = %q%s }"):format(value.path, length)
   elseif type(value) == "table" and value[1] ~= nil and type(value[1]) ~= "table" then
      return shown_list(value)
   elseif type(value) == "table" or type(value) == "userdata" or type(value) == "function" then
      return "a " .. type(value)
   end
   return ask_module.show(value)
end

--- A call as a script's author would write it; `conn` is left out.
-- @string operation
-- @param mbox
-- @tparam table args what is behind it, with `n`
-- @treturn string such as `size("joe", 2)`
function witness.call(operation, mbox, args)
   local parts = { type(mbox) == "string" and witness.show(mbox) or "mbox" }
   for i = 1, args.n do
      if type(args[i]) ~= "userdata" and args[i] ~= nil then
         parts[#parts + 1] = witness.show(args[i])
      end
   end
   return ("%s(%s)"):format(operation, table.concat(parts, ", "))
end

-- Judging -------------------------------------------------------------------

local function is_count(value)
   return type(value) == "number" and value >= 0 and math.tointeger(value) ~= nil
end

local function is_unique_id(value)
   return type(value) == "string" and #value <= 70 and value:find("^[\x21-\x7e]+$") ~= nil
end

local function first_wrong(list, is_right)
   for i, value in ipairs(list) do
      if value ~= false and not is_right(value) then
         return i
      end
   end
end

local function judge_scan(sizes, uids)
   if type(sizes) ~= "table" or uids ~= nil and type(uids) ~= "table" then
      return "answer", "scan returns an array of sizes, and perhaps one of unique-ids"
   end
   local i = first_wrong(sizes, is_count)
   if i then
      return "answer", ("entry %d of the sizes is no number of octets"):format(i)
   end
   for id = 1, uids and #sizes or 0 do
      if uids[id] ~= false and not is_unique_id(uids[id]) then
         return "uid-form", ("entry %d of the unique-ids is %s"):format(id, witness.show(uids[id]))
      end
   end
end

-- By operation: the rule that an answer breaks, and what was expected; nil: none.
local judges = {
   lock = function(answer)
      if type(answer) ~= "boolean" and answer ~= nil then
         return "answer", "true or false expected"
      end
   end,
   renew = function(answer)
      if answer ~= true then
         return "renew", "true expected while the lock is held; the server would end the session"
      end
   end,
   stat = function(answer)
      if not is_count(answer) then
         return "answer", "the number of messages expected"
      end
   end,
   size = function(answer)
      if not is_count(answer) then
         return "answer", "a number of octets expected"
      end
   end,
   scan = judge_scan,
   uidl = function(answer)
      if answer == nil or answer == false then
         return "answer", "the unique-id of a message that is there expected"
      elseif not is_unique_id(answer) then
         return "uid-form", "1 to 70 octets from 0x21 to 0x7E expected"
      end
   end,
   get = function(answer)
      if not answer then
         return "answer", "a message handle expected: the message was counted, and nobody deleted it"
      end
   end,
   top = function(answer)
      if not answer then
         return "answer", "a message handle expected: the message was counted, and nobody deleted it"
      end
   end,
   dele = function(answer)
      if answer ~= true then
         return "answer", "true expected once all of them are deleted"
      end
   end,
}

--- Whether an error is that of a guard.
function witness.is_over_time(err)
   return type(err) == "string" and (err:find("(callback_timeout)", 1, true)
      or err:find("(callback_instructions)", 1, true)) ~= nil
end

--- An error in one line.
function witness.text_of(err)
   if type(err) == "table" then
      return ("error { code = %s, text = %s }"):format(ask_module.show(err.code), ask_module.show(err.text))
   end
   return (ask_module.show(err):match("^[^\n]*"))
end

-- Recording -----------------------------------------------------------------

local Witness = {}
Witness.__index = Witness

local function tell(self, rule, call, got)
   if not self.lenient or rule == "hang" then
      self.found(rule, call, got)
   end
   return false
end

local function judge(self, entry)
   local answers = entry.answers
   local told = entry.operation == "lock" and holders.are_told(answers[1], answers[2])
   if not answers[1] and answers[2] ~= nil and not told then
      return tell(self, "answer", entry.call, ("%s, %s: a fault"):format(
         witness.show(answers[1]), witness.show(answers[2])))
   end
   local rule, expected = nil, nil
   if judges[entry.operation] then
      rule, expected = judges[entry.operation](answers[1], answers[2])
   end
   if rule then
      return tell(self, rule, entry.call, ("%s; %s"):format(witness.show(answers[1]), expected))
   end
   return true
end

local function end_call(self, entry, ok, ...)
   self.open[entry] = nil
   if ok then
      entry.answers = table.pack(...)
      entry.good = judge(self, entry)
      return ...
   end
   local err = ...
   if witness.is_over_time(err) then
      self.hung = true
      tell(self, "hang", entry.call, "it did not come back in time")
   else
      tell(self, "raise", entry.call, "raised: " .. witness.text_of(err))
   end
   error(err, 0)
end

local function wrap(self, operation, f)
   return function(mbox, ...)
      local entry = { operation = operation, call = witness.call(operation, mbox, table.pack(...)), good = false }
      self.open[entry], self.last[operation] = true, entry
      return end_call(self, entry, pcall(f, mbox, ...))
   end
end

--- Makes a witness.
-- @tparam table storage functions
-- @func found called with a rule, a call and what was got, where an answer is
-- none: an error, `nil, message`, a wrong type, no answer in time
-- @return an object: `storage`, to be served; `last`, by operation: the last call
-- with `call`, `answers`, `good`; `lenient`: answers are not judged while it is
-- true; `hung`
function witness.new(storage, found)
   local self = setmetatable({ storage = {}, last = {}, open = {}, found = found, lenient = false }, Witness)
   for _, operation in ipairs(OPERATIONS) do
      local f = storage[operation]
      self.storage[operation] = f and wrap(self, operation, f) or f
   end
   return self
end

--- To be called when no call can be under way: whether one never ended.
-- @treturn boolean
function Witness:is_stuck()
   local entry = next(self.open)
   if entry then
      self.open[entry] = nil
      self.hung = true
      self.found("hang", entry.call, "it did not come back: it used up its instructions")
   end
   return self.hung == true
end

return witness
