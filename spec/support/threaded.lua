-- A module for threads, by whose functions specs see where they run and hold them up.
local me = {}

local functions = { word = "no function" }

-- Which thread this is: no two that live have the same.
function functions.who()
   return tostring(me)
end

function functions.echo(...)
   return ...
end

function functions.count(...)
   return select("#", ...)
end

function functions.types(...)
   local types = {}
   for i, value in ipairs { ... } do
      types[i] = math.type(value) or type(value)
   end
   return table.concat(types, " ")
end

local function note(file, text)
   local notes <close> = assert(io.open(file, "a"))
   notes:write(text, "\n")
end

-- Does not return before somebody writes a line into this FIFO; a file beside it
-- tells that a thread is here.
function functions.hold(_, fifo)
   note(fifo .. ".in", "here")
   local file <close> = assert(io.open(fifo))
   return file:read("l")
end

function functions.say(_, fifo, text)
   local file <close> = assert(io.open(fifo, "w"))
   file:write(text, "\n")
end

-- A lock that says true, unless the FIFO holds it up and says something else.
function functions.lock(_, fifo, notes)
   local said = fifo and functions.hold(nil, fifo) or "true"
   if notes then
      note(notes, "lock")
   end
   return said == "true"
end

function functions.unlock(_, _, notes)
   if notes then
      note(notes, "unlock " .. functions.who())
   end
end

function functions.fail(value)
   error(value)
end

function functions.odd(what)
   local values = {
      ["function"] = print, userdata = io.stdout, thread = coroutine.create(print),
      nested = { list = { 1, { print } } },
   }
   values.cycle = {}
   values.cycle.again = values.cycle
   return what, values[what]
end

function functions.raise_odd()
   error({ code = "SYS/TEMP", f = print })
end

function functions.raise_shown()
   error(setmetatable({}, { __tostring = function() return "shown so" end }))
end

function functions.popd(text)
   local popd = require("popd")
   popd.sleep(0)
   popd.log("error", text)
   return popd.octets("a\n"), popd.scheme.verify("{PLAIN}a", "a")
end

return functions
