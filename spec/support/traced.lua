--- Programs under strace, which makes system calls fail, or kills at one.
local files = require("support.files")
local process = require("support.process")

local traced = {}

-- Between two of these nothing changes that outlives the process.
local CHANGING = {}
for name in ("openat write pwrite64 writev ftruncate fallocate fsync fdatasync fcntl link linkat rename renameat "
   .. "unlink unlinkat mkdir mkdirat rmdir"):gmatch("%S+") do
   CHANGING[name] = true
end

--- Whether that can be done here.
function traced.works()
   return process.has("strace") and (process.run { "strace", "-o", "/dev/null", "true" })
end

-- A sanitizer that looks for leaks cannot be traced.
local function strace(options, line)
   local command = "export ASAN_OPTIONS=detect_leaks=0; exec strace -f -qq %s %s"
   return process.run { "sh", "-c", command:format(options, line) }
end

--- Runs a program.
-- @string inject as strace's, such as "pwrite64:error=ENOSPC:when=1"
-- @string line the program, in the shell's words
-- @treturn boolean whether it ended well
-- @treturn string what it wrote
function traced.run(inject, line)
   return strace(("-o /dev/null -e trace=%s -e inject=%s"):format(inject:match("^[^:]*"), inject), line)
end

--- The system calls of a program.
-- @string line the program, in the shell's words
-- @tparam table options `from`, `to`: patterns; from the call whose line in the trace
-- matches, to the one (absent: to the end); `changing`: only those by which files
-- change or are locked
-- @treturn table a list of { name =, nth = }, the latter as each thread counts
function traced.calls(line, options)
   local trace = os.tmpname()
   local ok, said = strace("-o " .. files.quote(trace), line)
   assert(ok, said)
   local calls, counts, listed, begun, over = {}, {}, {}, false, false
   for text in io.lines(trace) do
      local thread, name = text:match("^(%d+)%s+([%w_]+)%(")
      if name then
         local nth = (counts[thread .. name] or 0) + 1
         counts[thread .. name] = nth
         begun = begun or text:find(options.from) ~= nil
         over = over or options.to and text:find(options.to) ~= nil
         if begun and not over and (CHANGING[name] or not options.changing) and not listed[name .. nth] then
            listed[name .. nth] = true
            calls[#calls + 1] = { name = name, nth = nth }
         end
      end
   end
   os.remove(trace)
   return calls
end

--- Runs a program, and kills it at a system call.
-- @treturn boolean whether it was killed
function traced.kill(call, line)
   return not traced.run(("%s:signal=KILL:when=%d"):format(call.name, call.nth), line)
end

return traced
