-- Faults in the log: the first of a kind in full, its repeats as a count; and which
-- command they belong to.
local client = require("support.client")
local core = require("popd.core")
local faults = require("popd.faults")
local popd = require("popd")
local store = require("support.store")

local WINDOW = faults.WINDOW

after_each(function()
   faults.WINDOW = WINDOW
   client.finish()
end)

-- A log, and a loop that goes on.
before_each(function()
   client.server()
end)

local function repeated(pattern)
   local lines = client.logged(pattern .. ".* repeated=%d+$")
   return lines[1] and tonumber(lines[1]:match("(%d+)$")), #lines
end

describe("an error that makes its own text", function()
   local function with_text(f)
      return setmetatable({}, { __tostring = f })
   end

   it("shows it, from popd.spawn too", function()
      popd.spawn(error, with_text(function() return "my own words" end))
      client.wait_for("the log", function() return client.logged("spawned function failed.*my own words")[1] end)
   end)

   it("is stopped where it never comes to an end", function()
      local function loop() while true do end end
      popd.spawn(error, with_text(loop))
      popd.spawn(error, { code = with_text(loop) })
      client.wait_for("the log", function() return client.logged("spawned function failed.*ran too long")[1] end)
      client.wait_for("the log", function() return client.logged("spawned function failed.*a table")[1] end)
   end)
end)

describe("a fault that repeats", function()
   it("is logged in full at once, then counted, and the count comes by itself", function()
      faults.WINDOW = 0.02
      for i = 1, 42 do
         faults.report("a callback failed", "storage.get", "x.lua:7: disk is full\nstack traceback:\n\tx.lua:7", nil)
         assert.equal(1, #client.logged("disk is full"), i)
      end
      client.wait_for("the count", function() return repeated("disk is full") end)
      assert.equal(41, (repeated('"a callback failed" callback=storage.get error="x.lua:7: disk is full"')))
      assert.equal(2, #client.logged("disk is full"))
      assert.equal(1, #client.logged("traceback"))
   end)

   it("is logged in full again in the next window", function()
      faults.WINDOW = 0.005
      for n = 1, 3 do
         faults.report("a callback failed", "storage.get", "kaboom")
         assert.equal(n, #client.logged("kaboom"))
         local over = false
         core.later(faults.WINDOW, function() over = true end) -- behind the window's own
         client.wait_for("the window's end", function() return over end)
      end
      assert.is_nil(repeated("kaboom"))
   end)

   for name, texts in pairs {
      ["whose addresses differ"] = { "x.lua:3: bad table: 0x55d0a1", "x.lua:3: bad table: 0x7ff012" },
      ["whose numbers differ"] = { "x.lua:3: conn 12 of joe17", "x.lua:3: conn 4711 of joe2" },
      ["whose port differs"] = { "x.lua:3: 127.0.0.1:5432: refused", "x.lua:3: 127.0.0.1:6: refused" },
   } do
      it(name .. " is one kind", function()
         faults.report("a callback failed", "storage.get", texts[1])
         faults.report("a callback failed", "storage.get", texts[2])
         faults.flush()
         assert.equal(1, (repeated("storage.get")))
      end)
   end

   for name, two in pairs {
      callback = { { "a callback failed", "storage.get", "x" }, { "a callback failed", "storage.top", "x" } },
      text = { { "a callback failed", nil, "x" }, { "a spawned function failed", nil, "x" } },
      error = { { "a callback failed", "storage.get", "x" }, { "a callback failed", "storage.get", "y" } },
      line = { { "a callback failed", nil, "x.lua:3: x" }, { "a callback failed", nil, "x.lua:4: x" } },
   } do
      it("is of another kind where its " .. name .. " differs", function()
         for _, fault in ipairs(two) do
            faults.report(table.unpack(fault, 1, 3))
         end
         faults.flush()
         assert.equal(2, #client.logged(" failed"))
         assert.is_nil(repeated(" failed"))
      end)
   end

   it("costs bounded memory and log, however many kinds there are", function()
      for i = 1, 1000 do
         faults.report("a callback failed", "storage.get", ("kind " .. ("x"):rep(i)))
      end
      assert.equal(101, #client.logged("kind"))
      faults.flush()
      assert.equal(899, (repeated("more kinds")))
      assert.equal(102, #client.logged("failed") + #client.logged("more kinds"))
   end)

   it("keeps no loop going", function()
      client.finish()
      faults.report("a callback failed", "storage.get", "x")
      local from = core.now()
      popd.run()
      assert.is_true(core.now() - from < WINDOW / 2)
   end)
end)

-- Each raises again and again, at the same place.
local function raise()
   error("kaboom")
end

describe("counted are", function()
   local function often(server, command, n)
      for _ = 1, n do
         local c = client.login(server)
         c:send(command .. "\r\nQUIT\r\n")
         c:closed()
      end
   end

   for name, case in pairs {
      callbacks = { "storage.get", { get = raise } },
      ["pull functions"] = { "get's function", { size = function() return 3 end, get = function() return raise end } },
      ["functions that close"] = { "a handle's close", { size = function() return 3 end, get = function()
         local left = "a"
         return { read = function()
            local chunk = left
            left = nil
            return chunk
         end, close = raise }
      end } },
   } do
      it(name, function()
         often(store.server({ "a" }, nil, case[2]), "RETR 1", 5)
         faults.flush()
         assert.equal(4, (repeated(case[1])))
         assert.equal(1, #client.logged('"RETR 1".*kaboom.*traceback'))
         assert.equal(2, #client.logged("kaboom"))
      end)
   end

   it("functions of popd.spawn, after and every", function()
      local runs = 0
      local job = popd.every(0.001, function()
         runs = runs + 1
         raise()
      end)
      for _ = 1, 5 do
         popd.spawn(raise)
         popd.after(0.001, raise)
      end
      client.wait_for("all", function() return runs > 3 and core.count() == 1 end)
      job:cancel()
      faults.flush()
      assert.equal(runs - 1, (repeated("popd.every failed")))
      local counts = {}
      for _, line in ipairs(client.logged("a spawned function failed.*repeated=")) do
         counts[#counts + 1] = line:match("%d+$")
      end
      assert.same({ "4", "4" }, counts)
   end)
end)

describe("a fault's command", function()
   local function logged_command(pattern)
      local line = assert(client.logged("^error.*callback=" .. pattern)[1], pattern)
      return line:match(' command="([^"]*)"') or line:match(" command=(%S+)"), line
   end

   -- what is sent             the callback that fails    what is shown
   local cases = {
      { "RETR 1",              "storage.get",             "RETR 1" },
      { "retr 01 ",            "storage.get",             "RETR 1" },
      { "TOP 1 0",             "storage.top",             "TOP 1 0" },
      { "UIDL",                "storage.uidl",            "UIDL" },
      { "UIDL 1",              "storage.uidl",            "UIDL 1" },
      { "CAPA",                "on.capa",                 "CAPA" },
      { "xtoken s3cr3t",       "commands.XTOKEN",         "XTOKEN" },
      { "NOOP s3cr3t",         "commands.NOOP",           "NOOP" },
      { "QUIT",                "on.quit",                 "QUIT" },
   }
   for _, case in ipairs(cases) do
      it(("of %q is %q"):format(case[1], case[3]), function()
         local server = store.server({ "a" }, {
            on = { capa = raise, quit = raise },
            commands = { XTOKEN = raise, NOOP = { run = raise, override = true } },
         }, { get = raise, top = raise, uidl = raise })
         local c = client.login(server)
         c:send(case[1] .. "\r\n")
         client.wait_for("the log", function() return client.logged("^error")[1] end)
         local shown, line = logged_command(case[2])
         assert.equal(case[3], shown)
         assert.is_nil(line:find("s3cr3t", 1, true))
      end)
   end

   local plain = core.base64("\0joe\0s3cr3t")
   local logins = {
      { { "USER joe", "PASS s3cr3t" },   "auth.lookup", "PASS" },
      { { "APOP joe 0123456789abcdef0123456789abcdef" }, "auth.lookup", "APOP joe" },
      { { "AUTH PLAIN " .. plain },      "auth.lookup", "AUTH PLAIN" },
      { { "auth plain", plain },         "auth.lookup", "AUTH PLAIN" },
   }
   for _, case in ipairs(logins) do
      it(("of %q is %q"):format(table.concat(case[1], ", "), case[3]), function()
         local server = store.server({}, { auth = { lookup = raise } })
         local c = client.connect(server)
         for _, line in ipairs(case[1]) do
            c:command(line)
         end
         local shown, line = logged_command(case[2])
         assert.equal(case[3], shown)
         for _, secret in ipairs { "s3cr3t", plain, "0123456789abcdef" } do
            assert.is_nil(line:find(secret, 1, true))
         end
      end)
   end

   it("is not told where there was none", function()
      local server = client.server { on = { connect = raise } }
      client.connect(server)
      assert.is_nil(client.logged("callback=on.connect")[1]:find("command=", 1, true))
   end)
end)

describe("conn.command", function()
   -- sent before              what conn_state tells then
   local cases = {
      { "USER joe",            "USER joe" },
      { "USER " .. ("j"):rep(100), "USER " .. ("j"):rep(74) },
      { "user",                "USER" },
      { "USER joe s3cr3t",     "USER" },
      { "PASS s3cr3t",         "PASS" },
      { "APOP s3cr3t",         "APOP" },
      { "AUTH s3cr3t",         "AUTH" },
      { "AUTH",                "AUTH" },
      { "AUTH PLAIN",          "AUTH PLAIN" },
      { "s3cr3t",              "unknown" },
      { "c2VjcmV0 x",          "unknown" },
      { "LIST 18446744073709551616", "LIST 18446744073709551615" },
      { "TOP 3 7",             "TOP 3 7" },
      { "LANG *",              "LANG *" },
      { "STAT",                "STAT" },
   }
   for commands, what in pairs { [false] = "", [true] = ", where the site has commands" } do
      for _, case in ipairs(cases) do
         it(("behind %q is %q%s"):format(case[1], case[2], what), function()
            local server = client.server { auth = store.auth,
               commands = commands and { XOWN = { run = print, states = "both" } } or nil }
            local c = client.connect(server)
            local id = server:conn_list()[1]
            assert.equal("", server:conn_state(id).command)
            c:send(case[1] .. "\r\n"):line()
            assert.equal(case[2], server:conn_state(id).command)
         end)
      end
   end

   it("stays through an exchange of AUTH", function()
      local server = client.server { auth = store.auth }
      local c = client.connect(server)
      c:command("AUTH CRAM-MD5")
      c:command("czNjcjN0")
      assert.equal("AUTH CRAM-MD5", server:conn_state(server:conn_list()[1]).command)
   end)
end)
