--- What a server's processes use: CPU by a control group of their own where there
-- is one, else by /proc; memory as PSS.
-- @module bench.measure
local files = require("support.files")
local socket = require("socket")

local measure = {}

local TICKS = 100 -- of /proc, a second; the same on every Linux that has users

local function text_of(path)
   local ok, text = pcall(files.text, path)
   return ok and text or ""
end

local function lines_of(command)
   local lines, pipe = {}, assert(io.popen(command))
   for line in pipe:lines() do
      lines[#lines + 1] = line
   end
   pipe:close()
   return lines
end

measure.lines_of = lines_of

-- Control groups ----------------------------------------------------------------

local function mount_point()
   return text_of("/proc/self/mounts"):match("%f[^\n\0]%S+ (%S+) cgroup2 ")
end

--- Makes a control group.
-- @string name
-- @treturn string its directory; nil where none can be made or it counts no time
function measure.new_group(name)
   local mount = mount_point()
   local dir = mount and ("%s/popd-bench-%s"):format(mount, name)
   if not dir or not os.execute(("mkdir %s 2>/dev/null"):format(files.quote(dir))) then
      return nil
   end
   if text_of(dir .. "/cpu.stat"):find("usage_usec") then
      return dir
   end
   measure.remove_group(dir)
   return nil
end

--- Removes it.  The system may take a moment to see that what ran in it has ended.
function measure.remove_group(dir)
   for _ = 1, 50 do
      if os.execute(("rmdir %s 2>/dev/null"):format(files.quote(dir))) then
         return
      end
      socket.sleep(0.02)
   end
   error(dir .. " cannot be removed")
end

-- Processes -----------------------------------------------------------------------

--- A process's descendants, without itself.
-- @tparam integer pid
-- @treturn {integer,...}
function measure.below(pid)
   local all = {}
   for _, line in ipairs(lines_of(("cat /proc/%d/task/*/children 2>/dev/null"):format(pid))) do
      for child in line:gmatch("%d+") do
         child = math.tointeger(tonumber(child))
         all[#all + 1] = child
         local more = measure.below(child)
         table.move(more, 1, #more, #all + 1, all)
      end
   end
   return all
end

-- Fields 14 to 17 of stat: a process's own time, and that of children that ended.
local function ticks_of(pid)
   local own, system, child, child_system =
      text_of(("/proc/%d/stat"):format(pid)):match("%) %S+" .. (" %S+"):rep(10) .. " (%d+) (%d+) (%d+) (%d+)")
   return own and { own = own + system, ended = child + child_system } or { own = 0, ended = 0 }
end

local function cpu_by_proc(pid)
   local ticks = ticks_of(pid).ended
   for _, child in ipairs(measure.below(pid)) do
      local used = ticks_of(child)
      ticks = ticks + used.own + used.ended
   end
   return ticks / TICKS
end

--- Seconds of CPU that a server's processes have used, ended ones too.
-- @tparam integer pid that of bench/serve, which gets what loses its parent
-- @tparam ?string group
function measure.cpu(pid, group)
   local used = group and text_of(group .. "/cpu.stat"):match("usage_usec (%d+)")
   return used and used / 1e6 or cpu_by_proc(pid)
end

local function members(pid, group)
   local all = {}
   for child in text_of(group .. "/cgroup.procs"):gmatch("%d+") do
      all[#all + 1] = math.tointeger(tonumber(child))
   end
   return #all > 0 and all or measure.below(pid)
end

--- Their memory in octets: what is private, and the share of what is not.
function measure.memory(pid, group)
   local sum = 0
   for _, child in ipairs(group and members(pid, group) or measure.below(pid)) do
      sum = sum + (tonumber(text_of(("/proc/%d/smaps_rollup"):format(child)):match("\nPss:%s*(%d+) kB")) or 0)
   end
   return sum * 1024
end

return measure
