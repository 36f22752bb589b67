--- Programs that are killed at a system call, by strace.
local files = require("support.files")
local process = require("support.process")

local killing = {}

--- Whether that can be done here.
function killing.works()
   return process.has("strace") and (process.run { "strace", "-o", "/dev/null", "true" })
end

-- A sanitizer that looks for leaks cannot be traced.
local function run(options, line)
   return os.execute(("export ASAN_OPTIONS=detect_leaks=0; exec strace -f -qq %s %s >/dev/null 2>&1"):format(options,
      line))
end

-- Between two of these nothing changes that outlives the process.
local CHANGING = {}
for name in ("openat write pwrite64 writev ftruncate fallocate fsync fdatasync fcntl link linkat rename renameat "
   .. "unlink unlinkat mkdir mkdirat rmdir"):gmatch("%S+") do
   CHANGING[name] = true
end

--- The system calls of a program by which files change or are locked, from the
-- call whose line in a trace matches, on.
-- @string line the program, in the shell's words
-- @string first a pattern
-- @treturn table a list of { name =, nth = }, the latter as each thread counts
function killing.calls(line, first)
   local trace = os.tmpname()
   assert(run("-o " .. files.quote(trace), line))
   local calls, counts, begun, listed = {}, {}, false, {}
   for text in io.lines(trace) do
      local thread, name = text:match("^(%d+)%s+([%w_]+)%(")
      if name then
         local nth = (counts[thread .. name] or 0) + 1
         counts[thread .. name] = nth
         begun = begun or text:find(first) ~= nil
         if begun and CHANGING[name] and not listed[name .. nth] then
            listed[name .. nth] = true
            calls[#calls + 1] = { name = name, nth = nth }
         end
      end
   end
   os.remove(trace)
   return calls
end

--- Runs the program and kills it at a call.
-- @treturn boolean whether it was killed
function killing.kill(line, call)
   local option = ("-o /dev/null -e trace=%s -e inject=%s:signal=KILL:when=%d"):format(call.name, call.name, call.nth)
   return not run(option, line)
end

return killing
