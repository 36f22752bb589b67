local client = require("support.client")
local popd = require("popd")
local store = require("support.store")

local function recorder()
   local calls = {}
   local on = {}
   for _, name in ipairs { "connect", "login", "logged_in", "capa", "retrieved", "quit", "disconnect" } do
      on[name] = function(...)
         calls[#calls + 1] = store.call(name, ...)
      end
   end
   return on, calls
end

describe("hooks", function()
   after_each(client.finish)

   it("come in order, conn first", function()
      local on, calls = recorder()
      on.capa = nil
      local server = store.server({ "a" }, { on = on })
      local c = client.login(server)
      c:fetch("RETR 1")
      c:fetch("TOP 1 0")
      c:command("QUIT")
      c:closed()
      client.wait_for("disconnect", function() return calls[#calls]:find("^disconnect") end)
      assert.same({ "connect(conn)", "login(conn, joe, user)", "logged_in(conn, joe, true)", "retrieved(conn, 1)",
         "quit(conn)",
         "disconnect(conn, quit)" }, { calls[1], calls[2], (calls[3]:gsub(", nil", "")), calls[4], calls[5],
            calls[6] })
      assert.equal(6, #calls)
   end)

   local why = {
      { "a wrong password", "password", {}, nil, "wrong" },
      { "a taken lock", "in-use", {}, { lock = function() return false end }, "secret" },
      { "a fault", "fault", {}, { stat = function() error("x") end }, "secret" },
      { "a hook", "hook", { login = function() return false, "no" end }, nil, "secret" },
   }
   for _, case in ipairs(why) do
      it("logged_in is told of " .. case[1] .. " as " .. case[2], function()
         local on, calls = {}, {}
         for name, f in pairs(case[3]) do
            on[name] = f
         end
         function on.logged_in(...)
            calls[#calls + 1] = store.call("logged_in", ...)
         end
         local c = client.connect((store.server({}, { on = on }, case[4])))
         c:command("USER joe")
         assert.truthy(c:command("PASS " .. case[5]):find("^%-ERR"))
         assert.same({ "logged_in(conn, joe, false, " .. case[2] .. ")" }, calls)
      end)
   end

   it("login comes before the secret is checked", function()
      local calls = {}
      local c = client.connect((client.server {
         on = { login = function() calls[#calls + 1] = "login" end },
         auth = { verify = function() calls[#calls + 1] = "verify" end },
      }))
      c:command("USER joe")
      c:command("PASS x")
      assert.same({ "login", "verify" }, calls)
   end)

   it("login is told apop", function()
      local got
      local c = client.connect((store.server({}, { on = { login = function(_, name,
         mech) got = name .. " " .. mech end } })))
      c:command("APOP joe 0123456789abcdef0123456789abcdef")
      assert.equal("joe apop", got)
   end)

   for _, name in ipairs { "connect", "login", "logged_in" } do
      local function attempt(f)
         local server, s = store.server({ "a" }, { on = { [name] = f } })
         local c = client.open(server)
         local line = c:line()
         if name ~= "connect" then
            c:command("USER joe")
            line = c:command("PASS secret")
         else
            assert.is_true(line:find("^%+OK") ~= nil or (c:closed()))
         end
         if line:find("^%-ERR") then
            assert.equal(s.locks, s.unlocks)
         end
         return line, s, c
      end

      it(name .. " may refuse with a text", function()
         assert.equal("-ERR not today", (attempt(function() return false, "not today" end)))
      end)

      it(name .. " may refuse with a text and a code", function()
         assert.equal("-ERR [SYS/PERM] not today", (attempt(function() return false, "not today", "SYS/PERM" end)))
      end)

      it(name .. " may go on by returning nothing, nil or a number", function()
         for _, f in ipairs { function() end, function() return nil end, function() return 0 end,
            function() return 0.001 end } do
            assert.truthy(attempt(f):find("^%+OK"))
            client.finish()
         end
      end)

      it(name .. " that returns a number delays the answer by it, and nobody else's", function()
         local began
         local server = store.server({ "a" }, { on = { [name] = function(conn)
            if not began then
               began = conn.id
               return 0.1
            end
         end } }, { lock = false })
         local slow = client.open(server)
         slow:send("USER joe\r\nPASS secret\r\n")
         client.wait_for("the hook", function() return began end)
         local quick = client.login(server)
         quick:command("STAT")
         slow:fill()
         assert.is_nil(slow.buffer:find("messages"))
         slow:line()
         slow:line()
         assert.truthy(slow:line():find("^%+OK 1"))
      end)

      it(name .. " may wait", function()
         assert.truthy(attempt(function() client.turn() end):find("^%+OK"))
      end)

      for what, f in pairs {
         ["raises"] = function() error("kaboom") end,
         ["returns nil and why"] = function() return nil, "kaboom" end,
         ["returns a table"] = function() return {} end,
         ["returns a text"] = function() return "yes" end,
         ["raises nil"] = function() error() end,
      } do
         it(name .. " that " .. what .. " refuses with [SYS/TEMP], and is logged", function()
            local line = attempt(f)
            assert.truthy(line:find("^%-ERR %[SYS/TEMP%] "), line)
            assert.is_nil(line:find("kaboom"))
            assert.equal(1, #client.logged("^error.*on%." .. name))
         end)
      end
   end

   for _, name in ipairs { "retrieved", "quit", "disconnect", "capa" } do
      it(name .. " that raises is logged, and nothing else", function()
         local server, s = store.server({ "a" }, { on = { [name] = function() error("kaboom") end } })
         local c = client.login(server)
         assert.truthy(c:command("CAPA"):find("^%+OK"))
         c:fetch("RETR 1")
         assert.equal("+OK bye", c:command("QUIT"))
         c:closed()
         client.wait_for("the end", function() return #server:conn_list() == 0 end)
         assert.equal(1, #client.logged("^error.*on%." .. name .. ".*kaboom"))
         assert.equal(1, s.unlocks)
      end)

      it(name .. " may wait", function()
         local done
         local server = store.server({ "a" }, { on = { [name] = function() client.turn() done = true end } })
         local c = client.login(server)
         assert.truthy(c:command("CAPA"):find("^%+OK"))
         c:fetch("RETR 1")
         assert.equal("+OK bye", c:command("QUIT"))
         client.wait_for("the hook", function() return done end)
      end)
   end

   it("disconnect comes after unlock, with the reason", function()
      local server, s
      server, s = store.server({ "a" }, { on = { disconnect = function(_,
         reason) s.calls[#s.calls + 1] = "gone: " .. reason end } })
      local c = client.login(server)
      c:close()
      client.wait_for("disconnect", function() return s.calls[#s.calls]:find("^gone") end)
      assert.equal("unlock(joe, conn)", s.calls[#s.calls - 1])
      assert.equal("gone: the client left", s.calls[#s.calls])
   end)

   it("disconnect is told of a client that never logged in, too", function()
      local reason
      local server = store.server({}, { on = { disconnect = function(_, told) reason = told end } })
      client.connect(server):close()
      client.wait_for("disconnect", function() return reason end)
   end)

   it("capa edits what is told, not what works", function()
      local c = client.connect((store.server({}, { on = { capa = function(_, lines)
         table.remove(lines, 1)
         lines[#lines + 1] = "XYZ"
      end } })))
      local _, lines = c:command("CAPA")
      assert.equal("XYZ", lines[#lines])
      assert.falsy(table.concat(lines, " "):find("TOP"))
   end)

   it("with an unknown name or no function raise, and name the choices", function()
      for _, on in ipairs { { conect = print }, { connect = 5 }, 5 } do
         local ok, err = pcall(popd.new, { on = on })
         assert.is_false(ok)
         assert.truthy(err:find("logged_in", 1, true) or err:find("function", 1, true) or err:find("table", 1, true),
            err)
      end
   end)
end)

describe("a command of the site's", function()
   after_each(client.finish)

   local function begin(command, options, changes)
      local all = { commands = { XCOUNT = { run = command } } }
      for key, value in pairs(options or {}) do
         all[key] = value
      end
      local server, s = store.server({ "a", "b" }, all, changes)
      return client.login(server), s, server
   end

   it("may be just a function", function()
      local server = store.server({}, { commands = { XCOUNT = function() return "fine" end } })
      assert.equal("+OK fine", client.login(server):command("XCOUNT"))
   end)

   it("gets conn and its arguments", function()
      local got
      local c = begin(function(conn, args)
         got = store.call("x", conn, args)
         return "fine"
      end)
      assert.equal("+OK fine", c:command("xcount one  two"))
      assert.equal("x(conn, one  two)", got)
      c:command("XCOUNT")
      assert.equal("x(conn, )", got)
   end)

   it("may answer with several lines, from any handle", function()
      for _, h in ipairs { "one\n.two\nthree", { headers = { { "A", "b" } } } } do
         local c = begin(function() return "see", h end)
         local reply, lines = c:command("XCOUNT", true)
         assert.equal("+OK see", reply)
         assert.same(type(h) == "string" and { "one", ".two", "three" } or { "A: b", "" }, lines)
         assert.equal("+OK", c:command("NOOP"))
         client.finish()
      end
   end)

   it("may refuse with a text, and a code", function()
      local c = begin(function(_, args) return nil, "no", args ~= "" and args or nil end)
      assert.equal("-ERR no", c:command("XCOUNT"))
      assert.equal("-ERR [SYS/PERM] no", c:command("XCOUNT SYS/PERM"))
   end)

   for what, f in pairs {
      ["raises"] = function() error("kaboom") end,
      ["returns nothing"] = function() end,
      ["returns false"] = function() return false end,
      ["returns a number"] = function() return 5 end,
      ["returns a table"] = function() return {} end,
      ["returns no handle"] = function() return "x", 5 end,
      ["returns a path that is not there"] = function() return "x", { path = "/nonexistent/x" } end,
   } do
      it("that " .. what .. " is a fault", function()
         local c = begin(f)
         local reply = c:command("XCOUNT")
         assert.truthy(reply:find("^%-ERR %[SYS/TEMP%] "), reply)
         assert.equal(1, #client.logged("^error.*commands%.XCOUNT"))
         assert.equal("+OK", c:command("NOOP"))
      end)
   end

   it("may choose what the client reads of an error", function()
      local c = begin(function() error { code = "SYS/PERM", text = "never" } end)
      assert.equal("-ERR [SYS/PERM] never", c:command("XCOUNT"))
   end)

   it("may wait", function()
      local c = begin(function() client.turn() return "slept" end)
      c:send("XCOUNT\r\nNOOP\r\n")
      assert.equal("+OK slept", c:line())
      assert.equal("+OK", c:line())
   end)

   local states = {
      { nil, "-ERR", "+OK" }, { "trans", "-ERR", "+OK" }, { "auth", "+OK", "-ERR" }, { "both", "+OK", "+OK" },
   }
   for _, case in ipairs(states) do
      it("works in the states " .. tostring(case[1]), function()
         local server = store.server({}, { commands = { XCOUNT = { run = function() return "x" end,
            states = case[1] } } })
         local c = client.connect(server)
         assert.equal(case[2], c:command("XCOUNT"):match("^%S+"))
         c:login("joe", "secret")
         assert.equal(case[3], c:command("XCOUNT"):match("^%S+"))
      end)
   end

   it("that is unknown is refused as unknown", function()
      local c = begin(function() return "x" end)
      assert.equal("-ERR unknown command", c:command("XOTHER"))
   end)

   it("may mark and unmark", function()
      local answers = {}
      local c, s = begin(function(conn, args)
         local verb, id = args:match("(%a+) (%-?%d+)")
         local ok, why = conn[verb](conn, tonumber(id))
         answers[#answers + 1] = { ok, type(why) }
         return "done"
      end)
      c:command("XCOUNT mark 1")
      c:command("XCOUNT mark 1")
      c:command("XCOUNT mark 3")
      c:command("XCOUNT mark 0")
      c:command("XCOUNT mark -1")
      assert.equal("+OK 1 3", c:command("STAT"))
      c:command("XCOUNT unmark 1")
      c:command("XCOUNT unmark 1")
      c:command("XCOUNT mark 2")
      assert.same({ { true, "nil" }, { nil, "string" }, { nil, "string" }, { nil, "string" }, { nil, "string" },
         { true, "nil" },
         { nil, "string" }, { true, "nil" } }, answers)
      assert.equal("+OK bye", c:command("QUIT"))
      assert.same({ "a" }, s.messages)
   end)

   it("may close the connection after its answer, with a text", function()
      local c, s = begin(function(conn)
         conn:close("that was all")
         return "last words"
      end)
      c:command("DELE 1")
      c:send("XCOUNT\r\nSTAT\r\n")
      assert.same({ true, "+OK last words\r\n-ERR that was all\r\n" }, { c:closed() })
      client.wait_for("unlock", function() return s.held == 0 end)
      assert.equal(2, #s.messages)
   end)

   it("may replace a built-in one with override", function()
      local server = store.server({ "a" }, { commands = { STAT = { run = function(_, args) return "mine" .. args end,
         override = true } } })
      assert.equal("+OK mine", client.login(server):command("STAT"))
   end)

   -- Without anything to log in with the core offers neither AUTH nor APOP.
   for _, keyword in ipairs { "AUTH", "APOP" } do
      it(("may replace %s where the core has none of its own"):format(keyword), function()
         local server = client.server { commands = { [keyword] = { override = true, states = "auth",
            run = function(_, args) return "mine " .. args end } } }
         assert.equal("+OK mine X-ONE abc", (client.connect(server):command(keyword .. " X-ONE abc")))
      end)
   end

   it("that replaces AUTH takes the core's mechanisms out of CAPA, and tells its own", function()
      local server = store.server({}, { commands = { AUTH = { override = true, states = "auth", capa = "SASL X-ONE",
         run = function() return "mine" end } } })
      local _, lines = client.connect(server):command("CAPA")
      local told = {}
      for _, line in ipairs(lines) do
         told[#told + 1] = line:match("^SASL.*")
      end
      assert.same({ "SASL X-ONE" }, told)
   end)

   it("that is wrong raises in new", function()
      for _, commands in ipairs {
         { XCOUNT = 5 }, { XCOUNT = {} }, { XCOUNT = true }, { xcount = print }, { ["X Y"] = print }, { [1] = print },
         { STAT = print }, { STAT = { run = print } }, { XCOUNT = { run = print, states = "never" } },
         { XCOUNT = { run = print, capa = "A\r\nB" } }, { XCOUNT = { run = print, capa = 5 } }, 5,
      } do
         assert.is_false((pcall(popd.new, { commands = commands })))
      end
   end)
end)
