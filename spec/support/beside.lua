--- Programs that run beside a server of this process, whose loop goes on meanwhile.
local client = require("support.client")
local files = require("support.files")

local beside = {}

local SAFETY = 60 -- seconds after which whatever still runs is ended

--- Runs a command to its end.
-- @tparam table words
-- @string dir a directory for what it writes; its HOME too
-- @treturn boolean whether it ended with status 0
-- @treturn string what it wrote, errors and all
function beside.run(words, dir)
   local quoted = {}
   for i, word in ipairs(words) do
      quoted[i] = files.quote(tostring(word))
   end
   local out = dir .. "/output"
   os.remove(out)
   os.execute(("{ env -u LD_PRELOAD HOME=%s timeout %d %s </dev/null >%s.new 2>&1; echo $? >>%s.new; mv %s.new %s; } &")
      :format(files.quote(dir), SAFETY, table.concat(quoted, " "), out, out, out, out))
   client.wait_for(words[1] .. " to end", function() return files.exists(out) end)
   local text, status = files.text(out):match("^(.-)(%d+)\n$")
   return status == "0", text
end

return beside
