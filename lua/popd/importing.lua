--- The commands `popd-lua import` and `popd-lua export`.
-- @module popd.importing
local flags = require("popd.flags")
local moving = require("popd.moving")
local privilege = require("popd.privilege")
local stores = require("popd.stores")
local uidl = require("popd.uidl")

local importing = {}

local known = { ["--store"] = "store", ["--user"] = "user", ["--uidl"] = "uidl" }

-- What is wrong with the words, or nil.
local function check(command, given, words)
   if not given.store then
      return command .. ": say --store sqlite:FILE"
   elseif not words[given.rest + 1] or words[given.rest + 2] then
      return command .. ": a user and a Maildir expected"
   elseif given.uidl and command ~= "import" then
      return command .. ": --uidl goes with import; the unique-ids are those of the store"
   end
   local ok, fault = pcall(uidl.new, given.uidl)
   if not ok then
      return "--uidl: " .. flags.plain(fault):gsub("^uidl: ", "")
   end
   local kind, why = stores.split(given.store)
   return not kind and why or kind ~= "sqlite" and command .. ": --store sqlite:FILE is what there is" or nil
end

local function failed(command, text)
   io.stderr:write("popd-lua: ", command, ": ", text, "\n")
   return 1
end

-- Names that a user mistypes are nobody's.
local function is_user(store, user)
   local names, why = store.users()
   for _, name in ipairs(names or {}) do
      if name == user then
         return true
      end
   end
   return nil, why or ("there is no user '%s'"):format(user)
end

local function run(command, given, words)
   local user, dir = words[given.rest], words[given.rest + 1]
   local wrong = privilege.become(given.user)
   if wrong then
      return failed(command, wrong)
   end
   local store, why = stores.open(given.store)
   local ok = store
   if ok then
      ok, why = is_user(store, user)
   end
   local count
   if ok then
      count, why = moving[command](store, user, dir, given.uidl)
   end
   if not count then
      return failed(command, why)
   end
   print(("%d moved, %d were there already"):format(count.moved, count.known))
   for _, reason in ipairs(count.failed) do
      failed(command, reason)
   end
   return #count.failed == 0 and 0 or 1
end

--- Runs a command.
-- @tparam table words its flags, the user and the Maildir, from 1 on
-- @string command `"import"` or `"export"`
-- @treturn integer the status to exit with
function importing.main(words, command)
   local given, wrong = flags.parse(words, 1, known)
   wrong = wrong or check(command, given, words)
   if wrong then
      return flags.fail(wrong)
   end
   local ok, status = pcall(run, command, given, words)
   return ok and status or failed(command, (tostring(status):gsub("\nstack traceback:.*$", "")))
end

return importing
