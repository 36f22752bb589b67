local client = require("support.client")
local popd = require("popd")
local store = require("support.store")

local WITH_SCAN = { stat = false, size = false, uidl = false }

local function changed(more)
   local all = {}
   for key, value in pairs(WITH_SCAN) do
      all[key] = value
   end
   for key, value in pairs(more) do
      all[key] = value
   end
   return all
end

describe("the callbacks", function()
   after_each(client.finish)

   local function session(changes, commands, options)
      local server, s = store.server({ "a", "bb", "c" }, options, changes)
      local auth_calls = s.calls
      server:configure { auth = store.record(auth_calls, {
         exists = function(name) return name == "joe" end,
         lookup = store.auth.lookup,
      }) }
      local c = client.login(server)
      local replies = {}
      for i, command in ipairs(commands) do
         replies[i] = { c:command(command) }
      end
      return s.calls, replies, s, c
   end

   it("come in order, with conn always in its place", function()
      local calls = session(nil, { "STAT", "LIST", "UIDL 2", "RETR 1", "TOP 2 5", "DELE 3", "DELE 1", "QUIT" })
      assert.same({
         "exists(joe, conn)", "lookup(joe, conn)", "lock(joe, conn)", "stat(joe, conn)", "size(joe, nil, conn)",
         "size(joe, 1, conn)", "size(joe, 2, conn)", "size(joe, 3, conn)", "uidl(joe, 2, conn)", "get(joe, 1, conn)",
         "get(joe, 2, conn)", "dele(joe, {1 3}, conn)", "unlock(joe, conn)",
      }, calls)
   end)

   it("are not asked for dele where nothing is marked", function()
      local calls = session(nil, { "DELE 1", "RSET", "QUIT" })
      assert.equal("unlock(joe, conn)", calls[#calls])
      assert.falsy(table.concat(calls, " "):find("dele"))
   end)

   it("are asked for verify in lookup's place", function()
      local calls = {}
      local server = client.server {
         auth = store.record(calls, {
            verify = function(name, password) return name == "joe" and password == "two words" and "box" or nil end,
            lookup = function() error("not asked") end,
            exists = function() error("not asked") end,
         }),
         storage = store.record(calls, store.new({}).plain),
      }
      client.login(server, "joe", "two words"):command("QUIT")
      assert.same({ "verify(joe, two words, conn)", "lock(box, conn)", "stat(box, conn)", "size(box, nil, conn)",
         "unlock(box, conn)" }, calls)
   end)

   it("are not asked for lookup where exists says no", function()
      local calls = {}
      local c = client.connect((client.server { auth = store.record(calls, {
         exists = function() return false end, lookup = function() error("not asked") end }) }))
      c:command("USER joe")
      assert.truthy(c:command("PASS x"):find("^%-ERR %[AUTH%]"))
      assert.same({ "exists(joe, conn)" }, calls)
   end)

   it("scan is asked once in place of stat, size and uidl", function()
      local calls, replies = session(changed { scan = function() return { 3, 4, 3 }, { "x1", "x2", "x3" } end },
         { "STAT", "LIST", "UIDL", "RETR 1", "QUIT" })
      assert.same({ "exists(joe, conn)", "lookup(joe, conn)", "lock(joe, conn)", "scan(joe, conn)",
         "get(joe, 1, conn)",
         "unlock(joe, conn)" }, calls)
      assert.equal("+OK 3 10", replies[1][1])
      assert.same({ "1 3", "2 4", "3 3" }, replies[2][2])
      assert.same({ "1 x1", "2 x2", "3 x3" }, replies[3][2])
   end)

   it("what scan does not know is asked for singly", function()
      local calls, replies = session({ scan = function() return { 3, false, 3 } end }, { "LIST", "UIDL 3", "QUIT" })
      assert.same({ "1 3", "2 4", "3 3" }, replies[1][2])
      assert.equal("+OK 3 uid-3", replies[2][1])
      assert.same({ "scan(joe, conn)", "size(joe, 2, conn)", "uidl(joe, 3, conn)", "unlock(joe, conn)" },
         table.move(calls, 4, #calls, 1, {}))
   end)

   it("top is asked for TOP, and cut by the core", function()
      local calls, replies = session({ top = function() return "H: 1\n\n1\n2\n3\n4\n" end }, { "TOP 2 1", "RETR 2",
         "QUIT" })
      assert.same({ "H: 1", "", "1" }, replies[1][2])
      assert.truthy(table.concat(calls, " "):find("top(joe, 2, 1, conn)", 1, true))
      assert.truthy(table.concat(calls, " "):find("get(joe, 2, conn)", 1, true))
   end)

   it("without size, it is counted from get's handle, once a session", function()
      local calls, replies = session({ size = false }, { "LIST", "STAT", "LIST", "RETR 2", "QUIT" })
      assert.same({ "1 3", "2 4", "3 3" }, replies[1][2])
      assert.equal("+OK 3 10", replies[2][1])
      local gets = 0
      for _, call in ipairs(calls) do
         gets = gets + (call:find("^get") and 1 or 0)
      end
      assert.equal(4, gets)
   end)

   it("without uidl, it is a digest of the content", function()
      local _, first = session({ uidl = false }, { "UIDL", "QUIT" })
      local _, second = session({ uidl = false }, { "UIDL", "UIDL 2", "QUIT" })
      assert.same(first[1], second[1])
      local seen = {}
      for i, line in ipairs(first[1][2]) do
         local uid = line:match("^" .. i .. " ([\x21-\x7e]+)$")
         assert.is_true(#uid <= 70 and not seen[uid])
         seen[uid] = true
      end
      assert.equal("+OK " .. first[1][2][2], second[2][1])
   end)

   it("without dele, DELE is refused", function()
      local _, replies, s = session({ dele = false }, { "DELE 1", "STAT", "QUIT" })
      assert.truthy(replies[1][1]:find("^%-ERR"))
      assert.equal("+OK 3 10", replies[2][1])
      assert.equal("+OK bye", replies[3][1])
      assert.equal(3, #s.messages)
   end)

   it("without lock, sessions do not exclude each other, and unlock is not asked", function()
      local server, s = store.server({ "a" }, nil, { lock = false })
      local a, b = client.login(server), client.login(server)
      a:command("QUIT")
      b:command("QUIT")
      assert.equal(0, s.unlocks)
   end)

   it("unlock is not asked where lock said no", function()
      local server, s = store.server({ "a" }, nil, { lock = function() return false end })
      local c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS secret"):find("^%-ERR %[IN%-USE%]"))
      c:command("QUIT")
      assert.equal(0, s.unlocks)
   end)

   it("an mbox of any type keeps its identity", function()
      for _, mbox in ipairs { { "table" }, 17, true, print, io.stdout, "" } do
         local seen = {}
         local s = store.new({ "a" })
         local storage = {}
         for name, f in pairs(s.plain) do
            storage[name] = function(first, ...)
               seen[#seen + 1] = rawequal(first, mbox)
               return f(first, ...)
            end
         end
         local c = client.login((client.server { auth = { lookup = function() return "secret", mbox end },
            storage = storage }))
         c:command("RETR 1")
         c:command("UIDL")
         c:command("DELE 1")
         assert.equal("+OK bye", c:command("QUIT"))
         assert.is_true(#seen >= 6)
         for _, same in ipairs(seen) do
            assert.is_true(same)
         end
      end
   end)

   it("conn is one object for the life of the connection, with data of the script's own", function()
      local seen, counts = {}, {}
      local function note(_, conn)
         seen[conn] = true
         conn.data.n = (conn.data.n or 0) + 1
         counts[#counts + 1] = conn.data.n
      end
      local server, s = store.server({ "a" })
      local plain = s.plain
      server:configure { storage = {
         lock = function(mbox, conn) note(nil, conn) return plain.lock(mbox) end,
         unlock = function(mbox, conn) note(nil, conn) plain.unlock(mbox) end,
         stat = function(mbox, conn) note(nil, conn) return plain.stat(mbox) end,
         get = function(mbox, id, conn) note(nil, conn) return plain.get(mbox, id) end,
      } }
      local c = client.login(server)
      c:fetch("TOP 1 0")
      c:command("QUIT")
      assert.same({ 1, 2, 3, 4 }, counts)
      local n = 0
      for conn in pairs(seen) do
         n = n + 1
         assert.is_nil(conn.state)
      end
      assert.equal(1, n)
   end)

   it("conn cannot be written to", function()
      local err
      local server = store.server({ "a" }, nil, { get = function(_, _, conn)
         err = select(2, pcall(function() conn.name = "x" end))
         return "a"
      end })
      client.login(server):fetch("RETR 1")
      assert.truthy(err:find("conn.name", 1, true))
      assert.truthy(err:find("callbacks_spec.lua", 1, true))
   end)

   it("as one function are asked Tcl's operations only", function()
      local calls = {}
      local s = store.new { "a", "b" }
      local server = client.server {
         auth = function(op, ...)
            calls[#calls + 1] = store.call(op, ...)
            return ({ exists = function() return true end, lookup = function() return "secret", "box" end })[op]()
         end,
         storage = function(op, ...)
            calls[#calls + 1] = store.call(op, ...)
            return s.plain[op](...)
         end,
      }
      local c = client.login(server)
      assert.equal("+OK", c:command("UIDL"))
      c:command("TOP 1 0")
      c:command("RETR 1")
      c:command("DELE 1")
      assert.equal("+OK bye", c:command("QUIT"))
      local tcl = { exists = true, lookup = true, lock = true, unlock = true, size = true, stat = true, get = true,
         dele = true }
      for _, call in ipairs(calls) do
         assert.is_true(tcl[call:match("^%w+")], call)
      end
      assert.same({ "exists(joe, conn)", "lookup(joe, conn)", "lock(box, conn)", "stat(box, conn)",
         "size(box, nil, conn)" },
         table.move(calls, 1, 5, 1, {}))
   end)

   it("renew comes just before dele", function()
      local calls, replies = session({ renew = function() return true end }, { "DELE 1", "QUIT" })
      assert.equal("+OK bye", replies[2][1])
      assert.same({ "renew(joe, conn)", "dele(joe, {1}, conn)", "unlock(joe, conn)" }, table.move(calls, #calls - 2,
         #calls, 1, {}))
   end)

   it("renew comes every renew_interval while the lock is held, not after", function()
      local calls, _, _, c = session({ renew = function() return true end }, {}, { renew_interval = 0.02 })
      local function renewed()
         local n = 0
         for _, call in ipairs(calls) do
            n = n + (call == "renew(joe, conn)" and 1 or 0)
         end
         return n
      end
      client.wait_for("three renewals", function() return renewed() >= 3 end)
      c:command("QUIT")
      assert.equal("unlock(joe, conn)", calls[#calls])
   end)

   for what, renew in pairs {
      ["says false"] = function() return false end,
      ["says nothing"] = function() end,
      ["raises"] = function() error("lease gone") end,
      ["says nil and why"] = function() return nil, "lease gone" end,
   } do
      it("renew that " .. what .. " at QUIT deletes nothing and is told", function()
         local _, replies, s = session({ renew = renew }, { "DELE 1", "QUIT" })
         assert.truthy(replies[2][1]:find("^%-ERR %[SYS/TEMP%]"))
         assert.equal(3, #s.messages)
      end)

      it("renew that " .. what .. " in between ends the session with [SYS/TEMP]", function()
         local _, _, s, c = session({ renew = renew }, { "DELE 1" }, { renew_interval = 0.02 })
         local _, last = c:closed()
         assert.truthy(last:find("^%-ERR %[SYS/TEMP%] "), last)
         client.wait_for("unlock", function() return s.held == 0 end)
         assert.equal(3, #s.messages)
         assert.equal(1, s.unlocks)
      end)
   end

   -- what dele answers, and what QUIT is answered with
   local dele = {
      { "true", function() return true end, "^%+OK" },
      { "nothing", function() end, "^%-ERR %[SYS/TEMP%] some deleted messages not removed" },
      { "false", function() return false end, "^%-ERR %[SYS/TEMP%] some deleted messages not removed" },
      { "1", function() return 1 end, "^%-ERR %[SYS/TEMP%] some deleted messages not removed" },
      { "nil and why", function() return nil, "disk is full" end,
         "^%-ERR %[SYS/TEMP%] some deleted messages not removed" },
      { "nil, why and ids", function() return nil, "disk is full", { 1 } end,
         "^%-ERR %[SYS/TEMP%] some deleted messages not removed" },
      { "an error", function() error("disk is full") end, "^%-ERR %[SYS/TEMP%] some deleted messages not removed" },
   }
   for _, case in ipairs(dele) do
      it("dele that answers " .. case[1] .. " is told as it is", function()
         local _, replies, s = session({ dele = case[2] }, { "DELE 1", "QUIT" })
         assert.truthy(replies[2][1]:find(case[3]), replies[2][1])
         assert.equal(1, s.unlocks)
         assert.equal(case[3] == "^%+OK" and 0 or 1, #client.logged("storage.dele"))
      end)
   end
end)

describe("an answer or a fault", function()
   after_each(client.finish)

   local AUTH, TEMP, IN_USE, GONE = "^%-ERR %[AUTH%] ", "^%-ERR %[SYS/TEMP%] ", "^%-ERR %[IN%-USE%] ", "^%-ERR [^%[]"
   local CHOSEN = "^%-ERR %[SYS/PERM%] ask the postmaster\r?\n?$"

   -- where: how the reply to it is had; a lone nil or false; values of wrong types
   local auth = { exists = { AUTH, {} }, lookup = { AUTH, { 5, {}, print } }, verify = { AUTH, {} } }
   local storage = {
      lock = { IN_USE, { 1, "yes", {} } },
      stat = { TEMP, { -1, 1.5, "3", {}, print } },
      scan = { TEMP, { 5, "x", print } },
      get = { GONE, { 5, true, print } },
      top = { GONE, { 5, true } },
      uidl = { nil, { 5, {}, "", "a b", ("x"):rep(71), "a\r\nb", "\xe4" } },
   }
   -- get may return a function
   storage.get[2][3] = nil

   local commands = { get = "RETR 1", top = "TOP 1 0", uidl = "UIDL 1" }

   local function attempt(name, f)
      local changes, options = {}, {}
      if auth[name] then
         options.auth = { [name] = f, lookup = name ~= "lookup" and store.auth.lookup or f }
      else
         changes[name] = f
      end
      local server, s = store.server({ "a" }, options, changes)
      local c = client.connect(server)
      c:command("USER joe")
      local reply = c:command("PASS secret")
      if commands[name] then
         assert.truthy(reply:find("^%+OK"), reply)
         reply = c:command(commands[name])
         assert.truthy(c:command("NOOP"):find("^%+OK"))
      end
      assert.truthy(c:command("QUIT"):find("^%+OK"))
      c:closed()
      client.wait_for("unlock", function() return s.held == 0 end)
      return reply, s
   end

   local function check_log(name, ...)
      local lines = client.logged("^error .*callback=%S*" .. name)
      assert.equal(1, #lines, table.concat(client.log, "\n"))
      assert.truthy(lines[1]:find(" conn=%d+"))
      for _, text in ipairs { ... } do
         assert.truthy(lines[1]:find(text, 1, true), lines[1])
      end
      for _, line in ipairs(client.log) do
         assert.is_nil(line:find("secret", 1, true))
      end
   end

   for _, list in ipairs { auth, storage } do
      for name, row in pairs(list) do
         local lone, wrong = row[1], row[2]
         if lone then
            for _, value in ipairs { "nil", "false" } do
               it(("of %s: %s"):format(name, value), function()
                  local reply = attempt(name, function()
                     if value == "false" then
                        return false
                     end
                  end)
                  assert.truthy(reply:find(lone), reply)
                  if lone ~= TEMP then
                     assert.same({}, client.logged("^error"))
                  end
               end)
            end
         end

         it(("of %s: nil and a message"):format(name), function()
            local reply = attempt(name, function() return nil, "the database sleeps" end)
            assert.truthy(reply:find(TEMP), reply)
            assert.is_nil(reply:find("database"))
            check_log(name, "the database sleeps")
         end)

         it(("of %s: a raised text, logged with its traceback"):format(name), function()
            local function deep() error("kaboom") end
            local reply = attempt(name, function()
               deep()
               return 1
            end)
            assert.truthy(reply:find(TEMP), reply)
            assert.is_nil(reply:find("kaboom"))
            check_log(name, "kaboom", "stack traceback", "callbacks_spec.lua")
         end)

         it(("of %s: a raised table with code and text"):format(name), function()
            local reply = attempt(name, function() error { code = "SYS/PERM", text = "ask the postmaster" } end)
            assert.truthy(reply:find(CHOSEN), reply)
            check_log(name, "ask the postmaster")
         end)

         it(("of %s: a raised table with a text alone"):format(name), function()
            local reply = attempt(name, function() error { text = "ask the postmaster" } end)
            assert.equal("-ERR [SYS/TEMP] ask the postmaster", reply)
         end)

         for _, raised in ipairs { "nil", "a table", "a number" } do
            it(("of %s: %s is raised"):format(name, raised), function()
               local reply = attempt(name, function() error(({ ["a table"] = {}, ["a number"] = 7 })[raised]) end)
               assert.truthy(reply:find(TEMP), reply)
               check_log(name)
            end)
         end

         it(("of %s: an error whose __tostring raises"):format(name), function()
            local reply = attempt(name, function()
               error(setmetatable({}, { __tostring = function() error("again") end }))
            end)
            assert.truthy(reply:find(TEMP), reply)
         end)

         for _, value in ipairs(wrong) do
            it(("of %s: the wrong result %s"):format(name, type(value) == "string" and ("%q"):format(value)
               or type(value) == "number" and value or type(value)), function()
               local reply = attempt(name, function() return value, value end)
               assert.truthy(reply:find(TEMP), reply)
               check_log(name)
            end)
         end
      end
   end

   it("of lookup: a password without an mbox", function()
      assert.truthy(attempt("lookup", function() return "secret" end):find(TEMP))
      check_log("lookup")
   end)

   it("of size: the whole is of a wrong type", function()
      for _, value in ipairs { -1, 1.5, "3", {} } do
         local server, s = store.server({ "a" }, nil, { size = function() return value end })
         local c = client.connect(server)
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find(TEMP), tostring(value))
         c:command("QUIT")
         assert.equal(1, s.unlocks)
      end
   end)

   it("of size: one message's is of a wrong type", function()
      for _, value in ipairs { -1, 1.5, "3", {} } do
         local server, s = store.server({ "a" }, nil, { size = function(_, id) return not id and 3 or value end })
         local c = client.login(server)
         for _, command in ipairs { "LIST", "LIST 1", "RETR 1" } do
            assert.truthy(c:command(command):find(TEMP), tostring(value))
         end
         assert.truthy(c:command("QUIT"):find("^%+OK"))
         assert.equal(1, s.unlocks)
      end
   end)

   it("of scan: entries of wrong types", function()
      for _, value in ipairs { -1, 1.5, "3", {}, true } do
         local server, s = store.server({ "a" }, nil, { scan = function() return { 1, value } end })
         local c = client.connect(server)
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find(TEMP), tostring(value))
         c:command("QUIT")
         assert.equal(1, s.unlocks)
      end
      for _, value in ipairs { 1, "", "a b", ("x"):rep(71), {}, true } do
         local server = store.server({ "a" }, nil, { scan = function() return { 1, 2 }, { "u1", value } end })
         local c = client.connect(server)
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find(TEMP), tostring(value))
      end
   end)

   it("of unlock is logged, and the reply to QUIT is not touched", function()
      local server, s
      server, s = store.server({ "a" }, nil, { unlock = function()
         s.held, s.unlocks = s.held - 1, s.unlocks + 1
         error("kaboom")
      end })
      local c = client.login(server)
      assert.equal("+OK bye", c:command("QUIT"))
      assert.equal(1, s.unlocks)
      check_log("unlock", "kaboom")
   end)

   it("of stat gives the lock back exactly once, and the next login works", function()
      local fail = true
      local server, s = store.server({ "a" }, nil, { stat = function()
         if fail then error("kaboom") end
         return 1
      end })
      local c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS secret"):find(TEMP))
      assert.equal(1, s.unlocks)
      fail = false
      c:login("joe", "secret")
      assert.equal("+OK bye", c:command("QUIT"))
      assert.equal(2, s.unlocks)
   end)

   it("of a get that gives nothing is that message's alone", function()
      local server = store.server({ "a", "b" }, nil, { get = function(_, id) return id == 2 and "b" or nil end })
      local c = client.login(server)
      assert.truthy(c:command("RETR 1"):find(GONE))
      assert.equal("b\r\n", (c:fetch("RETR 2")))
   end)

   it("with a traceback does not hold the password that verify was called with", function()
      local server = client.server { auth = { verify = function(_, password) return #password .. nil end } }
      local c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS very secret words"):find(TEMP))
      for _, line in ipairs(client.log) do
         assert.is_nil(line:find("very secret", 1, true))
      end
   end)

   it("of a storage without uidl is that of get", function()
      local server = store.server({ "a" }, nil, { uidl = false, get = function() error("kaboom") end })
      assert.truthy(client.login(server):command("UIDL"):find(TEMP))
   end)
end)

describe("popd", function()
   after_each(client.finish)

   it("counts a message's octets as sent", function()
      for _, case in ipairs { { "", 0 }, { "a", 3 }, { "a\nb\n", 6 }, { ".\r\n", 3 }, { "a\rb\n", 5 }, { "a\n\n",
         5 } } do
         assert.equal(case[2], popd.octets(case[1]))
      end
   end)
end)
