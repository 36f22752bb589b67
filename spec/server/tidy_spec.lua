-- What a crowd has left goes once it is quiet: Lua's garbage, and the process's memory.
local files = require("spec.support.files")
local program = require("spec.support.program")

-- Makes garbage of some 20 MB while a crowd is served, then waits until `what` is low again.
local SCRIPT = [[
local popd = require("popd")
%s
local function heap()
   return collectgarbage("count") * 1024
end
local function resident()
   local file <close> = io.open("/proc/self/statm")
   return tonumber(file:read("a"):match("^%%d+ (%%d+)")) * 4096
end
local CROWD, what, most = 20, %s, nil
local latch, made, measured = require("popd.core").latch, {}, require("popd.core").latch()
for _ = 1, CROWD do
   popd.spawn(function()
      local kept = {}
      for i = 1, 20000 do
         kept[i] = { i }
      end
      local all = latch()
      made[#made + 1] = all
      for _, one in ipairs(made[CROWD] and made or {}) do
         one:fire()
      end
      all:wait()
      most = most or what()
      measured:fire()
      kept[1] = nil
   end)
end
popd.spawn(function()
   measured:wait()
   local stop = os.time() + 20
   repeat
      popd.sleep(0.05)
   until what() < most - 8e6 or os.time() > stop
   print(what() < most - 8e6)
end)
popd.run()
]]

local function run(first, what)
   local dir = files.new_dir()
   files.put(dir .. "/site.lua", SCRIPT:format(first, what))
   local command = program.popd_lua()
   command[#command + 1] = dir .. "/site.lua"
   local status, out, err = program.run(command)
   files.remove(dir)
   assert.same({ 0, "true\n", "" }, { status, out, err })
end

describe("A server that has become quiet", function()
   it("has collected its garbage", function()
      run("", "heap")
   end)

   it("has collected it also where that goes by generations", function()
      run('collectgarbage("generational")', "heap")
   end)

   -- Under a sanitizer freed memory stays with it for a while.
   if not os.getenv("POPD_INTERPRETER") then
      it("has given memory back to the system", function()
         run("", "resident")
      end)
   end
end)
