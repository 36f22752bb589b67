--- How long a server's loop keeps others waiting.
local files = require("support.files")
local process = require("support.process")

local turns = {}

--- Makes what process.start's option `preload` takes; nil: there is no compiler.
-- @string dir
function turns.library(dir)
   local library = dir .. "/turns.so"
   local source = debug.getinfo(1, "S").source:match("^@(.*)%.lua$") .. ".c"
   if process.has("cc") and os.execute(("cc -O2 -shared -fPIC -o %s %s -ldl"):format(files.quote(library),
      files.quote(source))) then
      return library
   end
end

--- The longest turn so far, in milliseconds of CPU.
-- @string file what TURNS named
function turns.longest(file)
   return tonumber(files.text(file):match("[%d.]+"))
end

return turns
