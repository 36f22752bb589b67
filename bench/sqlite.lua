-- What a session costs against popd.memory, popd.maildir and popd.sqlite: login, LIST, UIDL
-- and 20 RETR, then QUIT; and what the others wait while a large maildrop is opened.
--
--     make bench-sqlite
--
-- One process: the client is part of the loop's work.  Passwords are plain, so that
-- no hash counts.
local files = require("support.files")
local now = require("popd.core").now
local fs = require("popd.fs")
local maildir = require("popd.maildir")
local memory = require("popd.memory")
local popd = require("popd")
local socket = require("popd.socket")
local sqlite = require("popd.sqlite")

local SESSIONS, MESSAGES, FETCHED = 200, 100, 20
local MANY = math.tointeger(tonumber(arg and arg[1] or 100000))

popd.log_to(nil, "error")
local dir = files.new_dir()

local auth = { lookup = function(name) return "{PLAIN}secret", name end }

local function connect(server)
   local client = assert(socket.connect("127.0.0.1", server:cget("port")))
   client:setoption("tcp-nodelay", true)
   client:settimeout(0)
   return client
end

-- What comes until `ending` does.
local function read(client, ending)
   local parts, last = {}, ""
   while true do
      local all, why, part = client:receive(65536)
      part = all or part
      if part ~= "" then
         parts[#parts + 1], last = part, (last .. part):sub(-5)
      end
      if last:sub(-#ending) == ending then
         return table.concat(parts)
      end
      assert(why ~= "closed", why)
      if why then
         assert(popd.wait(client, "r", 60))
      end
   end
end

local function say(client, command, ending)
   client:send(command .. "\r\n")
   local reply = read(client, ending or "\r\n")
   assert(reply:find("^%+OK"), reply)
   return reply
end

local function session(server, user)
   local client = connect(server)
   read(client, "\r\n")
   say(client, "USER " .. user)
   say(client, "PASS secret")
   say(client, "LIST", "\r\n.\r\n")
   say(client, "UIDL", "\r\n.\r\n")
   for id = 1, FETCHED do
      say(client, "RETR " .. id, "\r\n.\r\n")
   end
   say(client, "QUIT")
   client:close()
end

local function serve(storage)
   return popd.new {
      port = 0, address = "127.0.0.1", auth = auth, storage = storage, max_per_address = false, max_per_user = false,
   }:up()
end

local function new_sqlite(name)
   local store = sqlite.new { file = dir .. "/" .. name }
   assert(store.add("joe", "{PLAIN}secret"))
   return store
end

-- Messages of one size, in all stores.
local function fill(octets)
   local text = ("Subject: x\n\n" .. ("a line of some length, as they are\n"):rep(octets // 35 + 1)):sub(1, octets - 1)
      .. "\n"
   local list, store = {}, new_sqlite("mail" .. octets)
   local root = ("%s/%d"):format(dir, octets)
   for _, sub in ipairs { "", "/joe", "/joe/new", "/joe/cur" } do
      assert(fs.mkdir(root .. sub))
   end
   for i = 1, MESSAGES do
      list[i] = text
      assert(store.deliver("joe", text))
      local name = ("%s/joe/new/%d.M%d.host,S=%d,W=%d"):format(root, 1700000000 + i, i, #text, fs.octets_of(text))
      assert(io.open(name, "wb")):write(text):close()
   end
   return {
      { "popd.memory", memory.new { joe = list } },
      { "popd.maildir", maildir.new { root = root .. "/%s" } },
      { "popd.sqlite", store },
   }
end

local function measure(octets)
   for _, case in ipairs(fill(octets)) do
      local server = serve(case[2])
      session(server, "joe")
      local from = now()
      for _ = 1, SESSIONS do
         session(server, "joe")
      end
      local took = (now() - from) * 1000 / SESSIONS
      print(("%-13s %d messages of %7d octets: %8.2f ms a session"):format(case[1], MESSAGES, octets, took))
      server:destroy()
   end
end

-- What a client waits for NOOP while another one opens a maildrop of many messages.
local function measure_many()
   local store = new_sqlite("many")
   for first = 1, MANY, 1000 do
      local list = {}
      for i = first, math.min(first + 999, MANY) do
         list[#list + 1] = { message = "\n", uid = ("17%08d.M1P1.host"):format(i) }
      end
      assert(store.import("joe", list))
   end
   local server = serve(store)
   local other, client = connect(server), connect(server)
   read(other, "\r\n")
   read(client, "\r\n")
   say(other, "USER ann")
   say(other, "PASS secret")
   say(client, "USER joe")
   local from, worst, reply = now(), 0
   client:send("PASS secret\r\n")
   repeat
      local start = now()
      say(other, "NOOP")
      worst = math.max(worst, now() - start)
      reply = client:receive("*l")
   until reply
   assert(reply:find("^%+OK"), reply)
   print(("popd.sqlite   a maildrop of %d messages opened in %.0f ms; meanwhile a NOOP took %.1f ms at worst"):format(
      MANY, (now() - from) * 1000, worst * 1000))
   server:destroy()
end

local function measure_all()
   for _, octets in ipairs { 4000, 100000, 2000000 } do
      SESSIONS = octets > 1000000 and 20 or 200
      measure(octets)
   end
   measure_many()
end

local ok, why
popd.spawn(function()
   ok, why = xpcall(measure_all, debug.traceback)
   popd.stop()
end)
popd.run()
os.execute("rm -rf '" .. dir .. "'")
assert(ok, why)
