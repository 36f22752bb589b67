local client = require("support.client")
local faults = require("popd.faults")
local files = require("support.files")
local store = require("support.store")

local dir

local function temp_dir()
   if not dir then
      dir = files.new_dir()
   end
   return dir
end

local function put(text)
   return files.put(temp_dir() .. "/message", text)
end

local function finish()
   client.finish()
   if dir then
      files.remove(dir)
      dir = nil
   end
end

-- A session whose only message is what make() returns at each get.
local function begin(make, more)
   local changes = { size = false, get = function() return make() end }
   for name, f in pairs(more or {}) do
      changes[name] = f
   end
   local server, s = store.server({ "x" }, nil, changes)
   return client.login(server), s, server
end

local function pieces(text, n)
   local list = {}
   for at = 1, #text, n do
      list[#list + 1] = text:sub(at, at + n - 1)
   end
   return list
end

local function source(list)
   local i, ended = 0, false
   return function()
      assert(not ended, "called after its end")
      i = i + 1
      ended = list[i] == nil
      return list[i]
   end
end

local function object(list, closed)
   local pull = source(list)
   return { read = function() return pull() end, close = closed }
end

local kinds = {
   string = function(text) return text end,
   ["path"] = function(text) return { path = put(text) } end,
   ["path with offset and length"] = function(text)
      return { path = put("front" .. text .. "back"), offset = 5, length = #text }
   end,
   ["open file"] = function(text) return assert(io.open(put(text), "rb")) end,
   ["open file, read from the middle"] = function(text)
      local file = assert(io.open(put("front" .. text), "rb"))
      file:read(5)
      return file
   end,
   ["function"] = function(text) return source(pieces(text, 1000)) end,
   ["function of single octets"] = function(text) return source(pieces(text, #text > 10000 and 4096 or 1)) end,
   ["function with empty chunks"] = function(text)
      local list = { "", "" }
      for _, piece in ipairs(pieces(text, 777)) do
         list[#list + 1] = piece
         list[#list + 1] = ""
      end
      return source(list)
   end,
   ["function that waits"] = function(text)
      local pull = source(pieces(text, 100000))
      return function()
         client.turn()
         return pull()
      end
   end,
   ["object"] = function(text) return object(pieces(text, 1000)) end,
   ["object with close"] = function(text) return object(pieces(text, 1000), function() end) end,
   ["object that waits"] = function(text)
      local o = object(pieces(text, 100000), function() client.turn() end)
      local read = o.read
      function o.read()
         client.turn()
         return read()
      end
      return o
   end,
}

local names = {}
for name in pairs(kinds) do
   names[#names + 1] = name
end
table.sort(names)

local messages = {
   { "an empty message", "" },
   { "LF line ends", "Subject: x\n\nbody\nmore\n" },
   { "CRLF line ends", "Subject: x\r\n\r\nbody\r\nmore\r\n" },
   { "mixed line ends", "Subject: x\r\n\nbody\r\nmore\nlast\r\n" },
   { "no final line end", "Subject: x\n\nbody" },
   { "a CR at its end", "Subject: x\n\nbody\r" },
   { "bare CRs and CR CR LF", "Subject: x\n\na\rb\r\r\nc\n" },
   { "a dot first", ".first\n" },
   { "a lone dot", ".\n" },
   { "a lone dot in the middle and at the end", "a\n.\nb\n." },
   { "dots in all places", ".\n..\n...\r\n.x\n\n.\r\n" },
   { "NUL and 8-bit octets", "\0\xff\n\xe4\0\n" },
   { "a line of 100000 octets", ("x"):rep(100000) .. "\n.\n" },
   { "5 MB", (("line of text\n.dot\r\n"):rep(5000000 // 19)) },
}

describe("a handle", function()
   after_each(finish)

   for _, name in ipairs(names) do
      for _, case in ipairs(messages) do
         it(("that is a %s sends %s right, and told its size before"):format(name, case[1]), function()
            local c = begin(function() return kinds[name](case[2]) end)
            local wire = store.wire(case[2])
            if case[1] == "a CR at its end" then
               wire = nil -- whether its CR is half of a line end is the core's affair; both size and text follow it
            end
            local text, reply = c:fetch("RETR 1")
            assert.is_true(wire == nil or text == wire)
            assert.equal(("+OK %d octets"):format(#text), reply)
            assert.equal("+OK", c:command("NOOP"))
            assert.same({}, client.logged("^warning"))
         end)
      end
   end

   it("may differ in kind at each get", function()
      local i = 0
      local c = begin(function()
         i = i + 1
         return kinds[names[i % #names + 1]]("Subject: x\n\nbody\n")
      end)
      for _ = 1, 2 * #names do
         assert.equal("Subject: x\r\n\r\nbody\r\n", (c:fetch("RETR 1")))
      end
   end)
end)

describe("a composed handle", function()
   after_each(finish)

   local cases = {
      { "keeps the order of a list", { { "To", "b" }, { "From", "a" } }, "To: b\r\nFrom: a\r\n\r\nbody\r\n" },
      { "sorts a map by name", { To = "b", From = "a", Cc = "c" }, "Cc: c\r\nFrom: a\r\nTo: b\r\n\r\nbody\r\n" },
      { "repeats a field whose value is an array", { Received = { "one", "two" } },
         "Received: one\r\nReceived: two\r\n\r\nbody\r\n" },
      { "repeats one of a list, too", { { "Received", { "one", "two" } } },
         "Received: one\r\nReceived: two\r\n\r\nbody\r\n" },
      { "takes numbers", { { "Lines", 7 } }, "Lines: 7\r\n\r\nbody\r\n" },
      { "may have no header", {}, "\r\nbody\r\n" },
   }
   for _, case in ipairs(cases) do
      it(case[1], function()
         local c = begin(function() return { headers = case[2], body = "body\n" } end)
         local text, reply = c:fetch("RETR 1")
         assert.equal(case[3], text)
         assert.equal(("+OK %d octets"):format(#case[3]), reply)
      end)
   end

   for _, name in ipairs(names) do
      it("may have a body that is a " .. name, function()
         local c = begin(function() return { headers = { { "A", "b" } }, body = kinds[name](".x\ny") } end)
         assert.equal("A: b\r\n\r\n.x\r\ny\r\n", (c:fetch("RETR 1")))
      end)
   end

   it("may have no body", function()
      local c = begin(function() return { headers = { { "A", "b" } } } end)
      assert.equal("A: b\r\n\r\n", (c:fetch("RETR 1")))
   end)

   for what, headers in pairs {
      ["LF in a value"] = { { "Subject", "x\nBcc: y" } }, ["CR in a value"] = { { "Subject", "x\rBcc: y" } },
      ["CRLF in a mapped value"] = { Subject = "x\r\nBcc: y" }, ["LF in a name"] = { { "Sub\nject", "x" } },
      ["CR in a mapped name"] = { ["Sub\rject"] = "x" }, ["a line end in an array"] = { A = { "x", "y\n" } },
      ["an empty name"] = { { "", "x" } }, ["a colon in a name"] = { { "A:", "x" } },
         ["a space in a name"] = { { "A B", "x" } },
   } do
      it("with " .. what .. " is a fault", function()
         local c = begin(function() return { headers = headers, body = "x" } end, { size = function() return 1 end })
         assert.truthy(c:command("RETR 1"):find("^%-ERR %[SYS/TEMP%]"))
         assert.equal(1, #client.logged("^error.*storage.get"))
         assert.equal("+OK", c:command("NOOP"))
      end)
   end
end)

describe("a handle that fails", function()
   after_each(finish)

   local failing = {
      ["a function that raises"] = function()
         local n = 0
         return function()
            n = n + 1
            return n < 3 and "line\n" or error("kaboom")
         end
      end,
      ["a function that returns nil and why"] = function()
         local n = 0
         return function()
            n = n + 1
            if n < 3 then return "line\n" end
            return nil, "kaboom"
         end
      end,
      ["a function that returns a number"] = function()
         local n = 0
         return function()
            n = n + 1
            return n < 3 and "line\n" or 5
         end
      end,
      ["an object whose read raises"] = function()
         local n = 0
         return { read = function()
            n = n + 1
            return n < 3 and "line\n" or error("kaboom")
         end }
      end,
      ["a composed one with such a body"] = function()
         return { headers = { { "A", "b" } }, body = function() error("kaboom") end }
      end,
   }
   for what, make in pairs(failing) do
      it(what .. " cuts the connection without a final dot, frees the lock, deletes nothing", function()
         local c, s = begin(make, { size = function() return 100 end })
         c:command("DELE 1")
         c:command("RSET")
         c:send("RETR 1\r\nQUIT\r\n")
         local _, all = c:closed()
         assert.is_nil(all:find("\r\n.\r\n", 1, true))
         assert.is_nil(all:find("bye", 1, true))
         client.wait_for("unlock", function() return s.held == 0 end)
         assert.equal(1, #s.messages)
         assert.is_true(#client.logged("^error") >= 1)
      end)
   end

   local unopened = {
      ["a path that is not there"] = function() return { path = "/nonexistent/message" } end,
      ["a directory"] = function() return { path = "/" } end,
      ["a file shorter than promised"] = function() return { path = put("short"), length = 100 } end,
      ["an offset behind the end"] = function() return { path = put("short"), offset = 6 } end,
      ["a closed file"] = function()
         local file = io.open(put("x"), "rb")
         file:close()
         return file
      end,
      ["a number"] = function() return 5 end,
      ["an empty table"] = function() return {} end,
      ["a path that is a number"] = function() return { path = 5 } end,
      ["a negative offset"] = function() return { path = put("x"), offset = -1 } end,
      ["a length that is a text"] = function() return { path = put("x"), length = "1" } end,
      ["a path with a NUL"] = function() return { path = put("x") .. "\0y" } end,
   }
   for what, make in pairs(unopened) do
      it(what .. " is a fault of that message alone", function()
         local c = begin(make, { size = function() return 100 end })
         assert.truthy(c:command("RETR 1"):find("^%-ERR %[SYS/TEMP%]"))
         faults.flush()
         assert.truthy(c:command("TOP 1 0"):find("^%-ERR %[SYS/TEMP%]"))
         assert.equal(2, #client.logged("^error.*storage.get"))
         assert.equal("+OK", c:command("NOOP"))
      end)

      it(what .. " is a fault of LIST and UIDL where they read it", function()
         local c = begin(make, { uidl = false })
         assert.truthy(c:command("LIST"):find("^%-ERR %[SYS/TEMP%]"))
         assert.truthy(c:command("UIDL 1"):find("^%-ERR %[SYS/TEMP%]"))
         assert.equal("+OK", c:command("NOOP"))
      end)
   end

   local stillborn = {
      ["a function that raises at once"] = function() return function() error("kaboom") end end,
      ["a function that waits and raises"] = function()
         return function()
            client.turn()
            error("kaboom")
         end
      end,
      ["a function that gives nothing, and then a number"] = function()
         local n = 0
         return function()
            n = n + 1
            return n == 1 and "" or 5
         end
      end,
      ["an object whose read fails at once"] = function() return { read = function() return nil, "kaboom" end } end,
   }
   for what, make in pairs(stillborn) do
      it(what .. " is an -ERR, and the session goes on", function()
         local c, s = begin(make, { size = function() return 100 end })
         assert.matches("^%-ERR %[SYS/TEMP%]", c:command("RETR 1"))
         assert.matches("^%-ERR %[SYS/TEMP%]", c:command("TOP 1 0"))
         assert.is_true(#client.logged("^error") >= 1)
         c:send("RETR 1\r\nNOOP\r\nQUIT\r\n")
         assert.matches("^%-ERR %[SYS/TEMP%]", c:line())
         assert.equal("+OK", c:line())
         assert.equal("+OK bye", c:line())
         assert.same({ true, "" }, { c:closed() })
         assert.equal(0, s.held)
      end)
   end

   it("because its file becomes shorter meanwhile cuts the connection without a final dot", function()
      local path = put(("x"):rep(20000000))
      local server = store.server({ "x" }, nil, { size = function() return 20000002 end, get = function()
         return { path = path }
      end })
      local c = client.open(server, 4096)
      c:line()
      c:login("joe", "secret")
      c:send("RETR 1\r\n")
      c:octets(1000)
      put("y")
      local _, all = c:closed()
      assert.is_nil(all:find("\r\n.\r\n", 1, true))
   end)
end)

describe("an object's close", function()
   after_each(finish)

   local function counting(list, more)
      local n = 0
      local function make()
         return object(list, more or function() n = n + 1 end)
      end
      return make, function() return n end
   end

   it("is called once after a RETR", function()
      local make, n = counting { "x\n" }
      local c = begin(make, { size = function() return 3 end })
      c:fetch("RETR 1")
      assert.equal("+OK", c:command("NOOP"))
      assert.equal(1, n())
   end)

   it("is called once after a TOP that does not read it all", function()
      local make, n = counting { "H: x\n\n1\n2\n", "3\n", "4\n" }
      local c = begin(make, { size = function() return 3 end })
      assert.equal("H: x\r\n\r\n1\r\n", (c:fetch("TOP 1 1")))
      assert.equal("+OK", c:command("NOOP"))
      assert.equal(1, n())
   end)

   it("is called once where it is only counted", function()
      local make, n = counting { "x\n" }
      local c = begin(make)
      assert.equal("+OK 1 3", c:command("STAT"))
      assert.equal(1, n())
   end)

   it("is called once where read raises", function()
      local n = 0
      local c = begin(function()
         return { read = function() error("kaboom") end, close = function() n = n + 1 end }
      end, { size = function() return 3 end })
      assert.matches("^%-ERR %[SYS/TEMP%]", c:command("RETR 1"))
      client.wait_for("close", function() return n > 0 end)
      assert.equal("+OK", c:command("NOOP"))
      assert.equal(1, n)
   end)

   it("is called once where the client leaves midway", function()
      local n = 0
      local c, s = begin(function()
         return { read = function() return ("x"):rep(70) .. "\n" end, close = function() n = n + 1 end }
      end, { size = function() return 3 end })
      c:send("RETR 1\r\n")
      c:octets(100)
      c:close()
      client.wait_for("unlock", function() return s.held == 0 end)
      assert.equal(1, n)
   end)

   it("that raises is logged, and the session goes on", function()
      local make = counting({ "x\n" }, function() error("kaboom") end)
      local c = begin(make, { size = function() return 3 end })
      c:fetch("RETR 1")
      assert.equal("+OK", c:command("NOOP"))
      assert.equal(1, #client.logged("^error.*kaboom"))
   end)

   it("of a Lua file leaves no descriptor open", function()
      local file
      local c = begin(function()
         file = io.open(put("x\n"), "rb")
         return file
      end, { size = function() return 3 end })
      c:fetch("RETR 1")
      assert.equal("+OK", c:command("NOOP"))
      assert.equal("closed file", io.type(file))
   end)
end)

describe("a wrong size", function()
   after_each(finish)

   for _, size in ipairs { 1, 1000 } do
      it(("of %d is logged, and the message is sent whole"):format(size), function()
         local c = begin(function() return "Subject: x\n\nbody\n" end, { size = function() return size end })
         assert.equal("Subject: x\r\n\r\nbody\r\n", (c:fetch("RETR 1")))
         assert.equal("+OK", c:command("NOOP"))
         assert.equal(1, #client.logged("^warning.*wrong size"))
      end)
   end
end)

describe("LuaSocket's smtp.message", function()
   after_each(finish)

   it("is a handle as it is", function()
      local smtp = require("socket.smtp")
      local c = begin(function()
         return smtp.message { headers = { subject = "parts" }, body = { preamble = "pre\r\n",
            { body = "one\r\n.dot\r\n" }, { body = "two" } } }
      end, { size = function() return 1 end })
      local text = c:fetch("RETR 1")
      assert.truthy(text:lower():find("subject: parts\r\n", 1, true))
      assert.truthy(text:find("\r\n\r\none\r\n.dot\r\n", 1, true))
      assert.truthy(text:find("\r\n\r\ntwo\r\n%-%-.-%-%-\r\n"))
   end)

   it("may wait in its source", function()
      local smtp = require("socket.smtp")
      local c = begin(function()
         local n = 0
         return smtp.message { headers = { subject = "waits" }, body = function()
            client.turn()
            n = n + 1
            return n <= 20 and ("line %d\r\n"):format(n) or nil
         end }
      end, { size = function() return 1 end })
      local text = c:fetch("RETR 1")
      for n = 1, 20 do
         assert.truthy(text:find(("line %d\r\n"):format(n), 1, true))
      end
   end)
end)
