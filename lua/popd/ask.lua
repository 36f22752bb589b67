--- Calls a site's functions, and tells answers from faults.
--
-- A lone nil or false is an answer (refused, taken, gone); nil with a message,
-- an error or a value of the wrong type is a fault, which the log gets in full
-- and the client as a neutral text.  A fault is a value here, with the `code`
-- and `text` that the client reads; `is_fault` knows it.
-- @module popd.ask
local core = require("popd.core")
local faults = require("popd.faults")
local use = require("popd.use")

local ask_module = {}

local NEUTRAL = "the server had a problem with this; try again later"

local show = faults.show
local begin, finish, guard = use.begin, use.finish, core.guard

-- Whether it says what the client is to read.
local function is_told(err)
   return type(err) == "table" and (rawget(err, "code") or rawget(err, "text")) ~= nil
end

local function traceback(err)
   if is_told(err) then
      return err
   end
   return debug.traceback(show(err), 2)
end

local function log_fault(conn, name, err)
   faults.report("a callback failed", name, err, conn)
end

-- The code and text that the client reads of a fault.
local function told(err)
   local code, text
   if is_told(err) then
      code, text = rawget(err, "code"), rawget(err, "text")
   end
   return type(code) == "string" and code or "SYS/TEMP", type(text) == "string" and text or NEUTRAL
end

-- A fault on its way through these functions.
local Fault = {}

local function fault(conn, name, err)
   log_fault(conn, name, err)
   local code, text = told(err)
   return setmetatable({ code = code, text = text }, Fault)
end

local function is_fault(value)
   return getmetatable(value) == Fault
end

-- A guard has tripped: the session ends behind the answer.  `answer` is what the
-- callback returned all the same, which is not used, but may be owed something.
local function stopped(conn, name, err, answer)
   local bad = fault(conn, name, err)
   bad.stopped, bad.answer = true, answer
   core.conn_end(conn)
   return bad
end

-- A message that a function returned: its __tostring is the site's, too.
local function described(message)
   if type(message) == "string" or is_told(message) then
      return message
   end
   local ok, text = guard(show, debug.traceback, message)
   return ok and text or "a " .. type(message)
end

local function answered(conn, name, one, ok, first, second, third, ...)
   finish(one, ok)
   if ok and (first or second == nil) then
      return first, second, third, ...
   elseif not ok and second then
      return stopped(conn, name, first, third)
   end
   return fault(conn, name, ok and described(second) or first), third, ...
end

--- Calls a site's function.  Returns its answer, or a Fault, which is logged.
local function ask(conn, name, f, ...)
   return answered(conn, name, begin(), guard(f, traceback, ...))
end

--- The same for a function that the client gets no answer of: if a guard stops
-- it, a line of its own tells the client so.
local function ask_aside(conn, name, f, ...)
   local answer = ask(conn, name, f, ...)
   if is_fault(answer) and answer.stopped then
      core.conn_end(conn, true)
   end
   return answer
end

local function wrong(conn, name, expected, got)
   return fault(conn, name, ("%s returned a %s, %s expected"):format(name, type(got), expected))
end

-- A hook that may refuse.  true: go on; else false, text, code.
local function hook(conn, name, f, ...)
   if not f then
      return true
   end
   local answer, text, code = ask(conn, "on." .. name, function(...)
      -- false with a text is an answer of a hook, not a fault
      local verdict, words, word_code = f(...)
      return verdict == false and "refused" or verdict, words, word_code
   end, ...)
   if is_fault(answer) then
      return false, answer.text, answer.code
   end
   if answer == "refused" then
      return false, type(text) == "string" and text or "refused", type(code) == "string" and code or nil
   end
   if type(answer) == "number" and answer >= 0 and answer <= 1e9 then
      core.pause(answer)
   elseif answer ~= nil and answer ~= true then
      local bad = wrong(conn, "on." .. name, "nothing, seconds, or false and a text", answer)
      return false, bad.text, bad.code
   end
   return true
end

local function tell(conn, name, f, ...)
   if f then
      ask_aside(conn, "on." .. name, f, ...)
   end
end

ask_module.show = show
ask_module.is_told = is_told
ask_module.log_fault = log_fault
ask_module.fault = fault
ask_module.is_fault = is_fault
ask_module.ask = ask
ask_module.ask_aside = ask_aside
ask_module.wrong = wrong
ask_module.hook = hook
ask_module.tell = tell

return ask_module
