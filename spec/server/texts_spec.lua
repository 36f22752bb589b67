local client = require("support.client")
local store = require("support.store")

-- Texts of scripts, and what of them may stand in a reply.
local texts = {
   { "CR LF", "one\r\n+OK two", "one??+OK two" },
   { "LF", "one\ntwo", "one?two" },
   { "CR", "one\rtwo", "one?two" },
   { "NUL", "one\0two", "one?two" },
   { "a tab", "one\ttwo", "one?two" },
   { "ESC and DEL", "\27[2J\127", "?[2J?" },
   { "600 octets", ("x"):rep(600) },
   { "a code's begin", "[IN-USE] x", "?IN-USE] x" },
   { "UTF-8", "gr\xc3\xbc\xc3\x9fe", "gr\xc3\xbc\xc3\x9fe" },
   { "600 octets of UTF-8", ("\xc3\xbc"):rep(300) },
}

local codes = {
   { "SYS/PERM", "[SYS/PERM]" }, { "X-MY", "[X-MY]" },
   { "A B" }, { "A]B" }, { "A\r\nB" }, { "" }, { "A\0B" }, { "A/" }, { "/A" }, { "A//B" }, { ("x"):rep(600) },
      { "\xc3\xbc" },
}

-- where a script's text goes: a function of text and code that returns the reply line and the client
local places = {
   ["on.connect"] = function(text, code)
      local c = client.open((store.server({}, { on = { connect = function() return false, text, code end } })))
      return c:line(), c
   end,
   ["on.login"] = function(text, code)
      local c = client.connect((store.server({}, { on = { login = function() return false, text, code end } })))
      c:command("USER joe")
      return c:command("PASS secret"), c
   end,
   ["on.logged_in, of a success"] = function(text, code)
      local c = client.connect((store.server({}, { on = { logged_in = function(_, _, ok)
         if ok then
            return false, text, code
         end
      end } })))
      c:command("USER joe")
      return c:command("PASS secret"), c
   end,
   ["on.logged_in, of a failure"] = function(text, code)
      local c = client.connect((store.server({}, { on = { logged_in = function() return false, text,
         code or "AUTH" end } })))
      c:command("USER joe")
      return c:command("PASS wrong"), c
   end,
   ["a command's refusal"] = function(text, code)
      local c = client.login((store.server({}, { commands = { XFOO = { run = function() return nil, text,
         code end } } })))
      return c:command("XFOO"), c
   end,
   ["a command's answer"] = function(text)
      local c = client.login((store.server({}, { commands = { XFOO = { run = function() return text end } } })))
      return c:command("XFOO"), c
   end,
   ["a command's first line of several"] = function(text)
      local c = client.login((store.server({}, { commands = { XFOO = { run = function() return text,
         "x\n" end } } })))
      local line = c:command("XFOO", true)
      return line, c
   end,
   ["conn:close"] = function(text)
      local c = client.login((store.server({}, { commands = { XFOO = { run = function(conn)
         conn:close(text)
         return "x"
      end } } })))
      c:command("XFOO")
      return c:line()
   end,
   ["conn_close"] = function(text)
      local server = store.server()
      local c = client.login(server)
      server:conn_close(server:conn_list()[1], text)
      return c:line()
   end,
}
for _, name in ipairs { "lock", "stat", "exists", "lookup", "verify" } do
   places["an error of " .. name] = function(text, code)
      local function f() error { text = text, code = code } end
      local auth = { lookup = store.auth.lookup }
      auth[name] = f
      local c = client.connect((store.server({}, { auth = auth }, { [name] = f })))
      c:command("USER joe")
      return c:command("PASS secret"), c
   end
end
for name, command in pairs { get = "RETR 1", top = "TOP 1 0", uidl = "UIDL 1" } do
   places["an error of " .. name] = function(text, code)
      local c = client.login((store.server({ "a" }, {}, { [name] = function() error { text = text,
         code = code } end })))
      return c:command(command), c
   end
end

local coded = {}
for place in pairs(places) do
   coded[place] = place:find("^on%.") or place:find("^an error") or place == "a command's refusal"
end

describe("a script's text", function()
   after_each(client.finish)

   for place, say in pairs(places) do
      for _, case in ipairs(texts) do
         it(("in %s with %s is no protocol"):format(place, case[1]), function()
            local line, c = say(case[2])
            assert.is_true(#line + 2 <= 512, #line)
            assert.is_nil(line:find("[%c\127]"))
            assert.truthy(line:find("^%+OK") or line:find("^%-ERR"))
            if case[3] then
               local got = line:gsub("^%S+ ?", ""):gsub("^%[AUTH%] ?", ""):gsub("^%[SYS/TEMP%] ?", "")
               -- behind a code a '[' is no other code
               assert.is_true(got == case[3] or got == case[2] and not case[2]:find("%c")
                  and line:find("^%S+ %[") ~= nil, line)
            end
            if c and place ~= "on.connect" then
               assert.truthy(c:command("CAPA"):find("^%+OK"))
            end
         end)
      end

      if coded[place] then
         for _, case in ipairs(codes) do
            it(("in %s with the code %q"):format(place, case[1]), function()
               local line = say("words", case[1])
               assert.is_nil(line:find("[%c\127\x80-\xff]"))
               if case[2] then
                  assert.equal("-ERR " .. case[2] .. " words", line)
               else
                  assert.equal("-ERR words", line)
               end
            end)
         end

         for what, code in pairs { ["a table"] = {}, ["true"] = true } do
            it("in " .. place .. " with a code that is " .. what .. " does no harm", function()
               assert.truthy(say("words", code):find("^%-ERR .*words$"))
            end)
         end
      end
   end

   it("that is empty is no harm in a refusal", function()
      assert.equal("-ERR", (places["on.login"]("")))
      assert.equal("-ERR", (places["a command's refusal"]("")))
      assert.equal("+OK", (places["a command's answer"]("")))
   end)

   it("that is empty closes without a word", function()
      local server = store.server()
      local c = client.login(server)
      server:conn_close(server:conn_list()[1], "")
      assert.same({ true, "" }, { c:closed() })
   end)

   it("that a hook gives as no text does no harm", function()
      for _, value in ipairs { 5, {}, true, print } do
         local c = client.connect((store.server({}, { on = { login = function() return false, value end } })))
         c:command("USER joe")
         assert.truthy(c:command("PASS secret"):find("^%-ERR"))
         client.finish()
      end
   end)

   it("in CAPA's lines is no protocol", function()
      local c = client.connect((store.server({}, { on = { capa = function(_, lines)
         lines[#lines + 1] = "A\r\n.\r\n+OK"
         lines[#lines + 1] = "."
         lines[#lines + 1] = ".B"
         lines[#lines + 1] = "C\0"
         lines[#lines + 1] = ("D"):rep(600)
      end } })))
      c:send("CAPA\r\n")
      c:line()
      local raw = c:body()
      local lines = {}
      for line in raw:gmatch("(.-)\r\n") do
         lines[#lines + 1] = line
         assert.is_nil(line:find("%c"))
         assert.is_true(#line <= 510, "a line of " .. #line)
      end
      local n = #lines
      assert.same({ "A??.??+OK", ".", ".B", "C?" }, table.move(lines, n - 4, n - 1, 1, {}))
      assert.truthy(c:command("USER joe"):find("^%+OK"))
   end)

   for what, spoil in pairs {
      ["a number"] = function(lines) lines[1] = 5 end,
      ["a table"] = function(lines) lines[2] = {} end,
      ["a hole"] = function(lines) lines[1] = nil end,
      ["nothing at all"] = function(lines) for i = #lines, 1, -1 do lines[i] = nil end end,
   } do
      it("in CAPA's lines may be " .. what .. " without harm", function()
         local c = client.connect((store.server({}, { on = { capa = function(_, lines) spoil(lines) end } })))
         assert.truthy(c:command("CAPA"):find("^%+OK"))
         assert.truthy(c:command("USER joe"):find("^%+OK"))
      end)
   end

   it("in a multi-line answer has its dots stuffed", function()
      local c = client.login((store.server({}, { commands = { XFOO = { run = function() return "x",
         ".\n..\n.a\r\n\n." end } } })))
      local _, lines = c:command("XFOO", true)
      assert.same({ ".", "..", ".a", "", "." }, lines)
      assert.equal("+OK", c:command("NOOP"))
   end)

   it("in a unique-id of scan that would be protocol is a fault", function()
      local c = client.connect((store.server({ "a" }, {}, { scan = function() return { 3 }, { "a\r\n.\r\n" } end })))
      c:command("USER joe")
      assert.truthy(c:command("PASS secret"):find("^%-ERR %[SYS/TEMP%]"))
   end)

   it("in the log is one line", function()
      local server = store.server({}, { on = { login = function() error("one\nerror two\0\r\n" .. "three") end } })
      local c = client.connect(server)
      c:command("USER joe")
      c:command("PASS secret")
      for _, line in ipairs(client.log) do
         assert.is_nil(line:find("%c"))
      end
   end)

   it("of a client in the log is one line", function()
      local c = client.connect((store.server()))
      c:command("USER j\x1b\tx\"y")
      c:command("PASS secret")
      for _, line in ipairs(client.log) do
         assert.is_nil(line:find("%c"))
      end
   end)
end)
