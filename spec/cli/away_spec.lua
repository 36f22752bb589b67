-- Messages that are on a disk, and not in memory.
local files = require("support.files")
local process = require("support.process")
local talk = require("support.talk")

local say = talk.say

local SOURCE = debug.getinfo(1, "S").source:match("^@(.*)cli/[^/]*$") .. "support/away.c"

-- Dots, bare line feeds, a last line without an end.
local SMALL = ".a\nb\n..c\n\nd"
local lines = {}
for i = 1, 40000 do
   lines[i] = (i % 7 == 0 and "." or "") .. ("line %d of it"):format(i)
end
local BIG = table.concat(lines, "\n") .. "\n"

-- Where a client may be idle for less time than all pieces of BIG take.
local TAKES = 60000 -- microseconds
local SITE = [[
local popd = require("popd")
local root = arg[1]
popd.new {
   address = "127.0.0.1", port = 0, idle_timeout = 1,
   auth = require("popd.passwd").new { file = root .. "/users" },
   storage = require("popd.maildir").new { root = root .. "/%s" },
}:up()
popd.run()
]]

local function as_sent(text)
   text = text:gsub("\n$", "")
   return (("\n" .. text):gsub("\n%.", "\n.."):sub(2):gsub("\n", "\r\n")) .. "\r\n.\r\n"
end

describe("a message that is not in memory", function()
   local root, server

   local function path(name)
      return root .. "/" .. name
   end

   local function login(user)
      return assert(talk.login(server.port, user))
   end

   local function fetch(sock, id, text)
      assert.matches("^%+OK", say(sock, "RETR " .. id))
      local sent = as_sent(text)
      assert.is_true(sock:receive(#sent) == sent, "another text came")
   end

   local function start(preload, site)
      for _, user in ipairs { "joe", "ann" } do
         files.run("mkdir -p %s/new %s/cur %s/tmp", path(user), path(user), path(user))
         files.put(path(user .. "/cur/1.a:2,"), SMALL)
         files.put(path(user .. "/cur/2.b:2,"), BIG)
      end
      files.put(path("users"), "joe:{PLAIN}secret:joe\nann:{PLAIN}secret:ann\n")
      files.put(path("site.lua"), site or "")
      server = process.start(site and { path("site.lua"), root } or {
         "--maildir", root, "--users", path("users"), "--address", "127.0.0.1", "--port", "0",
      }, {
         preload = preload,
         environment = {
            "AWAY=" .. path("away"), "GATE=" .. path("gate"), "BROKEN=" .. path("broken"),
            "TAKES=" .. (site and TAKES or 0),
         },
      })
      server:wait_port()
   end

   before_each(function()
      root = files.new_dir()
   end)

   after_each(function()
      server:stop("KILL")
      files.remove(root)
   end)

   it("is read from the disk", function()
      start()
      local sock = login("joe")
      assert.matches("^%+OK 2 ", say(sock, "STAT"))
      files.run("sync %s/cur/*; for f in %s/cur/*; do dd if=$f iflag=nocache count=0 2>/dev/null; done",
         path("joe"), path("joe"))
      fetch(sock, 2, BIG)
      fetch(sock, 1, SMALL)
      assert.matches("^%+OK", say(sock, "QUIT"))
      sock:close()
   end)

   -- A sanitizer wants to be the first library itself.
   if os.getenv("POPD_INTERPRETER") or not process.has("cc") then
      return
   end

   local function start_slow(site)
      files.run("cc -O2 -shared -fPIC -o %s %s -ldl", path("away.so"), SOURCE)
      start(path("away.so"), site)
   end

   it("comes whole, in pieces that are read aside", function()
      start_slow()
      local sock = login("joe")
      for _ = 1, 2 do
         fetch(sock, 1, SMALL)
         fetch(sock, 2, BIG)
      end
      assert.matches("^%+OK", say(sock, "QUIT"))
      sock:close()
      assert.is_true(tonumber(files.text(path("away"))) > 2 * #BIG / 32768)
   end)

   -- Reads wait from here on, until it is called again.
   local function close_gate()
      files.run("mkfifo %s", path("gate"))
      return function()
         local gate = assert(io.open(path("gate"), "r+"))
         os.remove(path("gate"))
         gate:close()
      end
   end

   it("keeps nobody else waiting", function()
      start_slow()
      local joe, ann = login("joe"), login("ann")
      assert.matches("^%+OK 2 ", say(joe, "STAT"))
      local open_gate = close_gate()
      assert(joe:send("RETR 2\r\nNOOP\r\n"))
      for _ = 1, 100 do
         assert.matches("^%+OK", say(ann, "NOOP"))
      end
      joe:settimeout(0)
      assert.same({ nil, "timeout", "" }, { joe:receive(1) })
      joe:settimeout(60)
      open_gate()
      local sent = as_sent(BIG)
      assert.matches("^%+OK", joe:receive("*l"))
      assert.is_true(joe:receive(#sent) == sent, "another text came")
      assert.matches("^%+OK", joe:receive("*l"))
      joe:close()
      ann:close()
   end)

   it("is nobody's when its client has left, and then the maildrop is free", function()
      start_slow()
      local joe = login("joe")
      assert.matches("^%+OK 2 ", say(joe, "STAT"))
      local open_gate = close_gate()
      assert(joe:send("RETR 2\r\n"))
      local ann = login("ann")
      joe:setoption("linger", { on = true, timeout = 0 })
      joe:close()
      open_gate()
      local again
      repeat -- until the server has seen that
         again = talk.login(server.port, "joe")
      until again
      fetch(again, 2, BIG)
      fetch(ann, 2, BIG)
      again:close()
      ann:close()
      server:signal("TERM")
      assert.equal(0, (server:ended()))
   end)

   it("that cannot be read is an -ERR, and the session goes on", function()
      start_slow()
      local sock = login("joe")
      assert.matches("^%+OK 2 ", say(sock, "STAT"))
      files.put(path("broken"), "")
      assert.matches("^%-ERR %[SYS/TEMP%]", say(sock, "RETR 2"))
      os.remove(path("broken"))
      fetch(sock, 1, SMALL)
      sock:close()
   end)

   it("that cannot be read takes nothing of what was asked before it", function()
      start_slow()
      local sock = login("joe")
      files.put(path("broken"), "")
      assert(sock:send("STAT\r\nRETR 2\r\nNOOP\r\n"))
      assert.matches("^%+OK 2 ", sock:receive("*l"))
      assert.matches("^%-ERR %[SYS/TEMP%]", sock:receive("*l"))
      assert.matches("^%+OK", sock:receive("*l"))
      os.remove(path("broken"))
      fetch(sock, 2, BIG)
      sock:close()
   end)

   it("makes nobody idle who waits for it", function()
      start_slow(SITE)
      local sock = login("joe")
      assert.matches("^%+OK 2 ", say(sock, "STAT"))
      fetch(sock, 2, BIG)
      assert.matches("^%+OK", say(sock, "NOOP"))
      sock:close()
   end)
end)
