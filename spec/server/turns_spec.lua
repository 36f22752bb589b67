local client = require("support.client")
local core = require("popd.core")
local fs = require("popd.fs")
local popd = require("popd")
local store = require("support.store")
local tls = require("support.tls")

local MOST = 40
local OCTETS = ("x"):rep(1000000)

describe("many who have something to compute", function()
   local ran, jobs

   -- Each takes longer than all of them may have at a time.
   local function start()
      ran, jobs = 0, {}
      for i = 1, MOST do
         jobs[i] = popd.spawn(function()
            fs.sha256(OCTETS) -- in one piece: no forced yield comes in between
            ran = ran + 1
         end)
      end
   end

   after_each(client.finish)

   it("do not all come before a client that has asked meanwhile", function()
      local c = client.login((store.server({ "a\n" })))
      start()
      c:send("NOOP\r\n")
      assert.equal("+OK", c:line())
      assert.is_true(ran < MOST / 2, ran .. " came before")
      client.wait_for("the others", function() return ran == MOST end)
   end)

   it("all have their turn in one step that does what is ready", function()
      start()
      popd.step(0)
      assert.equal(MOST, ran)
   end)

   it("may be cancelled while they wait for their turn", function()
      start()
      popd.step(0.0001)
      assert.is_true(ran > 0 and ran < MOST, ran .. " ran")
      local before, later = ran, false
      for _, job in ipairs(jobs) do
         job:cancel()
      end
      popd.spawn(function() later = true end)
      client.wait_for("one that came later", function() return later end)
      assert.equal(before, ran)
   end)
end)

describe("many who compute without end", function()
   after_each(client.finish)

   it("do not all come before the greeting of one who came last", function()
      local server = store.server({ "a\n" })
      local pieces, going = 0, true
      for _ = 1, MOST do
         popd.spawn(function()
            while going do
               for _ = 1, 8000 do -- about what comes between two forced yields
                  pieces = pieces + 1 / 8000
               end
            end
         end)
      end
      popd.step(0)
      local before = pieces
      client.connect(server)
      going = false
      assert.is_true(pieces - before < MOST / 2, pieces - before .. " pieces came before")
   end)
end)

describe("a step that does what is ready", function()
   -- Of each kind more than an iteration has time for, and never done.
   local COMPUTING, SHORT, LONG_ENOUGH = 10, 20, 0.00045

   it("comes to its end while callbacks of both kinds keep the loop busy", function()
      local going, runs = true, 0
      local function compute()
         while going do end
      end
      local function run()
         local stop = core.now() + LONG_ENOUGH
         while core.now() < stop do end
         runs = runs + 1
         if going then
            popd.spawn(run)
         end
      end
      for _ = 1, COMPUTING do popd.spawn(compute) end
      for _ = 1, SHORT do popd.spawn(run) end
      local most = 0
      for _ = 1, 5 do
         runs = 0
         popd.step(0)
         most = math.max(most, runs)
      end
      going = false
      client.drain()
      assert.is_true(most > 0 and most <= 5 * SHORT, most .. " ran in a step")
   end)
end)

describe("many who shake hands", function()
   local pki, server

   -- Whose handshake the server has answered.
   local function shaken(crowd)
      local n = 0
      for _, c in ipairs(crowd) do
         c:fill()
         n = n + (#c.buffer > 0 and 1 or 0)
      end
      return n
   end

   -- So many who have said hello, and are accepted.
   local function crowd_of(n)
      local crowd = {}
      for i = 1, n do
         crowd[i] = client.open(server):send(tls.hello("a.example"))
      end
      popd.step(0)
      assert.equal(n, #server:conn_list())
      return crowd
   end

   lazy_setup(function()
      pki = tls.new_pki()
      pki:make("server")
   end)
   lazy_teardown(function() pki:remove() end)
   before_each(function() server = pki:implicit() end)
   after_each(client.finish)

   it("do not all come before the greeting of one who came last", function()
      local plain = server:listen { address = "127.0.0.1", port = 0, tls = false }
      local crowd = crowd_of(MOST)
      client.connect(plain.port)
      assert.is_true(shaken(crowd) < MOST / 2, shaken(crowd) .. " came before")
      client.wait_for("the others", function() return shaken(crowd) == MOST end)
   end)

   it("all have their turn in one step that does what is ready", function()
      local crowd = crowd_of(MOST)
      popd.step(0) -- begins, and sees the hellos
      popd.step(0)
      assert.equal(MOST, shaken(crowd))
   end)
end)
