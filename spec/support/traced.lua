--- Lua programs under strace, which makes system calls fail, or kills at one.
local files = require("support.files")
local process = require("support.process")

local traced = {}

--- Whether that can be done here.
function traced.works()
   return process.has("strace") and (process.run { "strace", "-o", "/dev/null", "true" })
end

-- A sanitizer that looks for leaks cannot be traced.
local function command(options, script)
   return ("ASAN_OPTIONS=detect_leaks=0 exec strace -f %s %s"):format(options, files.lua(script))
end

--- Runs a script.
-- @string inject as strace's, such as "pwrite64:error=ENOSPC:when=1"
-- @string script its path
-- @treturn boolean whether it ended well
-- @treturn string what it wrote
function traced.run(inject, script)
   return process.run { "sh", "-c", command("-o /dev/null -e inject=" .. inject, script) }
end

--- The system calls that a script makes between opening /popd-begin and /popd-end,
-- which do not exist: a list of { name =, nth = }, its count from the program's start.
-- @string script
-- @string trace a path to write to
function traced.calls(script, trace)
   local ok, said = process.run { "sh", "-c", command("-o " .. files.quote(trace), script) }
   assert(ok, said)
   local calls, counts, between = {}, {}, false
   for line in io.lines(trace) do
      local name = line:match("^%d+%s+([%w_]+)%(") or line:match("^([%w_]+)%(")
      if name then
         counts[name] = (counts[name] or 0) + 1
         local mark = line:match('"/popd%-(%a+)"')
         if mark then
            between = mark == "begin"
         elseif between then
            calls[#calls + 1] = { name = name, nth = counts[name] }
         end
      end
   end
   return calls
end

--- Runs a script, and kills it at a system call.
-- @treturn boolean whether it was killed
function traced.kill(call, script)
   local ok = traced.run(("%s:signal=KILL:when=%d"):format(call.name, call.nth), script)
   return not ok
end

return traced
