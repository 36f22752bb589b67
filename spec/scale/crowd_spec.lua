-- A thousand clients at once, of whom a tenth do what holds a careless server up.
local corpus = require("support.corpus")
local fetching = require("support.fetching")
local files = require("support.files")
local process = require("support.process")

local FAST, IDLE, SLOW = 900, 50, 50

-- Measured: 18 MiB.  The replies that wait for the idle clients have 10 MB each,
-- of which the system takes some; a server that kept the rest itself would need
-- some 200 MiB.
local BOUND_KIB = 40 * 1024

local script = [[
local popd, maildir = require("popd"), require("popd.maildir")
popd.new("crowd", {
   address = "127.0.0.1", port = 0, max_per_address = 2000, max_connections = 2000,
   auth = { lookup = function(name) return "x", name end },
   storage = maildir.new { root = arg[1] .. "/%s" },
}):up()
]]

local function big(number)
   return {
      file = ("new/18%08d.M1P1.host.example"):format(number),
      stored = "Subject: big\n\n" .. ("a line of some length, and then another\n.dotted\n"):rep(10000),
   }
end

describe("popd-lua under a thousand clients", function()
   local root, server, peak, figures, said

   lazy_setup(function()
      root = files.new_dir()
      local messages = corpus.small(7)
      messages[8] = big(8)
      files.run("mkdir %s/mail", root)
      corpus.write(root .. "/template", messages)
      server = process.start({ files.put(root .. "/server.lua", script), root .. "/mail" }, { descriptors = 4096 })
      server:wait_port()
      local _
      _, said = process.run {
         "python3", fetching.helper("crowd.py"), server.port, root .. "/mail", root .. "/template", FAST, IDLE, SLOW,
      }
      figures = {}
      for key, value in said:gmatch("(%w[%w_]*)=(%S+)") do
         figures[key] = tonumber(value)
      end
      peak = server:peak_memory()
   end)

   lazy_teardown(function()
      if server then
         server:stop()
      end
      files.remove(root)
   end)

   it("sends every octet right to each of them", function()
      assert.equal(0, figures.failed, said)
      assert.is_nil(said:find("Traceback", 1, true), said)
   end)

   it("does not let those who dawdle hold up the others", function()
      print(("\n900 clients fetched everything within %.1f s, all 1000 within %.1f s; %d MB in all"):format(
         figures.fast_seconds, figures.seconds, figures.octets // 1000000))
      assert.equal(0, figures.slow_done_before_fast)
      assert.equal(IDLE, figures.idle_waiting)
   end)

   it("needs bounded memory", function()
      if not peak then
         pending("the system does not tell a process's peak memory")
      end
      print(("\npeak memory of the server: %.1f MiB"):format(peak / 1024))
      if not server:is_instrumented() then
         assert.is_true(peak < BOUND_KIB, peak .. " KiB")
      end
   end)
end)
