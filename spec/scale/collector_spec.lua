-- Lua's collector has much to look at where many clients rest, and takes short steps all the same.
local files = require("support.files")
local process = require("support.process")
local turns = require("support.turns")

local CLIENTS = 4000
local MOST = 2 -- milliseconds of CPU in one turn
local ROUNDS = 4

describe("the program with four thousand clients at rest", function()
   local root, server, crowd, heard

   before_each(function()
      root = files.new_dir()
   end)

   after_each(function()
      if crowd then
         crowd:close()
      end
      if heard then
         heard:close()
      end
      if server then
         server:stop("KILL")
      end
      crowd, heard, server = nil, nil, nil
      files.remove(root)
   end)

   local function bench(program, words)
      return ("%s/bench/%s %s"):format(os.getenv("POPD_BUILD"), program, words)
   end

   -- A crowd that stays until its pipe is closed.
   local function rest()
      local said = root .. "/said"
      files.run("mkfifo %s", said)
      crowd = assert(io.popen(bench("load", ("--port %d --workload rest --connections %d --count %d >%s"):format(
         server.port, CLIENTS, CLIENTS, said)), "w"))
      heard = assert(io.open(said))
      assert.equal("ready", heard:read("l"))
   end

   -- One session after the other, each with garbage of its own: the longest turn.
   local function round()
      os.remove(root .. "/turns")
      files.run(bench("load", ("--port %d --workload login --first %d --count 3000 --ends-only >/dev/null"):format(
         server.port, CLIENTS)))
      return turns.longest(root .. "/turns")
   end

   local built = files.new_dir()
   local library = turns.library(built)

   teardown(function()
      files.remove(built)
   end)

   it("keeps nobody waiting for more than two milliseconds", library and function()
      files.run(bench("mailbox", ("maildir rest %d %s/mail >/dev/null"):format(CLIENTS + 1, root)))
      server = process.start({ "bench/site.lua", root .. "/mail", "0" },
         { preload = library, environment = { "TURNS=" .. root .. "/turns" } })
      server:wait_port()
      rest()
      local longest = math.huge
      for _ = 1, ROUNDS do -- a machine that others are busy on counts its own waits as ours: the best round
         longest = math.min(longest, round())
      end
      print(("\nthe longest turn took %.2f ms"):format(longest))
      assert.is_true(longest > 0 and longest < MOST, ("a turn took %.2f ms"):format(longest))
   end or nil)
end)
