--- The command `popd-lua check`: a storage is checked before it serves.
-- @module popd.checking
local check = require("popd.check")
local flags = require("popd.flags")
local popd = require("popd")
local privilege = require("popd.privilege")

local checking = {}

local known = { ["--log"] = "log" }

local function complain(text)
   io.stderr:write("popd-lua: ", text, "\n")
   return 2
end

local function traceback(err)
   return debug.traceback(type(err) == "string" and err or tostring(err), 2)
end

-- What the file returns: storage and options; nil and what is wrong.
local function load(words, first)
   local file = words[first]
   local chunk, err = loadfile(file)
   if not chunk then
      return nil, err
   end
   local arg = table.move(words, first, #words, 0, {})
   _G.arg = arg -- luacheck: ignore
   local ok, storage, options = xpcall(chunk, traceback, table.unpack(arg))
   if not ok then
      return nil, storage
   elseif storage == nil then
      return nil, file .. ": it returns nothing; it must return a storage and options: "
         .. 'return storage, { mbox = "joe", put = function(mbox, text) … end }'
   end
   return storage, options
end

local MARKS = { held = "ok", failed = "FAIL", unchecked = "-" }

local function print_rule(row, found)
   local text = row.state == "unchecked" and ("not checked: %s"):format(row.why) or row.text
   io.write(("%-5s %-11s %s\n"):format(MARKS[row.state], row.rule, text))
   for _, one in ipairs(found) do
      local more = one.more > 0 and (" (and %d times more)"):format(one.more) or ""
      io.write(("%17s %s: %s%s\n"):format("", one.call, one.got, more))
   end
   if row.advice then
      io.write(("%17s → %s\n"):format("", row.advice))
   end
end

local function print_report(report)
   local count = { held = 0, failed = 0, unchecked = 0 }
   for _, row in ipairs(report.rules) do
      local found = {}
      for _, one in ipairs(report) do
         found[#found + 1] = one.rule == row.rule and one or nil
      end
      print_rule(row, found)
      count[row.state] = count[row.state] + 1
   end
   io.write(("\n%d rules hold, %d fail, %d could not be checked\n"):format(count.held, count.failed, count.unchecked))
end

--- Runs the command.
-- @tparam table words its flags, the file, the file's arguments, from 1 on
-- @treturn integer the status to exit with: 0, all rules hold that could be
-- checked; 1, some fail; 2, nothing could be checked
function checking.main(words)
   local given, wrong = flags.parse(words, 1, known)
   if not given then
      return flags.fail(wrong)
   elseif not words[given.rest] then
      return flags.fail("check: which file? It returns a storage, and options with an mbox")
   elseif not pcall(popd.log_to, nil, given.log or "none") then
      return flags.fail("--log: '" .. given.log .. "' is none of debug, info, warning, error, none")
   end
   privilege.guard(popd) -- the file serves nobody as root
   local storage, options = load(words, given.rest)
   if storage == nil then
      return complain(options)
   end
   local ok, held, report = pcall(check.run, storage, options)
   if not ok then
      return complain(words[given.rest] .. ": " .. tostring(held):gsub("^[%w%._/-]+:%d+: ", ""))
   end
   print_report(report)
   return held and 0 or 1
end

return checking
