--- How long a server's loop keeps others waiting.
local files = require("support.files")
local process = require("support.process")

local turns = {}

--- Makes what process.start's option `preload` takes; nil: there is no compiler, or
-- a sanitizer, which wants to be the first library itself.
-- @string dir
function turns.library(dir)
   local library = dir .. "/turns.so"
   local source = debug.getinfo(1, "S").source:match("^@(.*)%.lua$") .. ".c"
   if os.getenv("POPD_INTERPRETER") or not process.has("cc") then
      return nil
   end
   files.run("cc -O2 -shared -fPIC -o %s %s -ldl", library, source)
   return library
end

--- The longest turn so far, in milliseconds of CPU.
-- @string file what TURNS named
function turns.longest(file)
   return tonumber(files.text(file):match("[%d.]+"))
end

return turns
