-- The clients of `make soak`: sessions that come, ask, leave, or break off.
--
--     popd-lua spec/soak/clients.lua PORT SECONDS CLIENTS SEED
--
-- Prints what they saw; the last line is `ended …` with counts.
local popd = require("popd")
local core = require("popd.core")
local socket = require("popd.socket")
local ssl = require("popd.ssl")

local port, seconds, clients = math.tointeger(arg[1]), tonumber(arg[2]), math.tointeger(arg[3])
math.randomseed(math.tointeger(arg[4]))
local until_when = core.now() + seconds
local counted = { sessions = 0, aborts = 0, fetched = 0, refused = 0, wrong = 0, tls = 0 }

local function chance(one_in)
   return math.random(one_in) == 1
end

local function count(what)
   counted[what] = counted[what] + 1
end

-- What the server's `text` makes, as it is sent.
local function expected(user, id)
   local lines = ("Subject: %s/%d\n\n%s\n.a dot\n"):format(user, id, (user .. " " .. id .. "\n"):rep(id * 40))
   return (lines:gsub("\n", "\r\n"))
end

-- The body of a multi-line reply; nil where the connection ended before its dot.
local function body(c)
   local lines = {}
   while true do
      local line = c:receive()
      if not line then
         return nil
      elseif line == "." then
         return table.concat(lines, "\r\n") .. "\r\n"
      end
      lines[#lines + 1] = line:gsub("^%.", "")
   end
end

local function ask(c, command)
   if not c:send(command .. "\r\n") then
      return nil
   end
   return c:receive()
end

local function fetch(c, user)
   local id = math.random(4)
   local reply = ask(c, "RETR " .. id)
   if not reply or reply:sub(1, 3) ~= "+OK" then
      return reply
   end
   local text = body(c)
   if text then
      count("fetched")
      if text ~= expected(user, id) then
         count("wrong")
         print("wrong body", user, id, #text)
      end
   end
   return text
end

local steps = {
   function(c) return ask(c, "STAT") end,
   function(c) return ask(c, "NOOP") end,
   function(c) return ask(c, "DELE " .. math.random(4)) end,
   function(c) return ask(c, "RSET") end,
   function(c) return ask(c, "XMISCHIEF") end,
   function(c) return ask(c, "UIDL " .. math.random(4)) end,
   function(c)
      local reply = ask(c, "LIST")
      return reply and (reply:sub(1, 3) ~= "+OK" or body(c))
   end,
   fetch, fetch,
}

-- Leaves without a word: a plain close, a reset, half a command, with a reply on its way.
local function abort(c)
   count("aborts")
   if chance(2) then
      c:send("RETR 4\r\nRETR 3\r\nLI")
   end
   if chance(3) then
      c:setoption("linger", { on = true, timeout = 0 })
   elseif chance(3) then
      c:shutdown("send")
      popd.sleep(math.random() * 0.02)
   end
   c:close()
end

local function secure(c)
   if not ask(c, "STLS") then
      return false
   end
   count("tls")
   return ssl.wrap(c, { verify = "none" }):dohandshake()
end

local function session(user)
   local c <close> = socket.tcp()
   c:settimeout(30)
   if not c:connect("127.0.0.1", port) or not c:receive() then
      return
   end
   if chance(50) and not secure(c) then
      return
   end
   if chance(20) then
      return abort(c)
   end
   local reply = ask(c, "USER " .. user) and ask(c, "PASS " .. (chance(20) and "wrong" or "secret"))
   if not reply or reply:sub(1, 3) ~= "+OK" then
      count("refused")
      return
   end
   for _ = 1, math.random(12) do
      if chance(25) then
         return abort(c)
      end
      if not steps[math.random(#steps)](c, user) then
         return
      end
   end
   ask(c, "QUIT")
end

-- Some share a maildrop, some have files.
local function user_of(n)
   if n % 10 == 0 then
      return "shared" .. n % 30
   end
   return (n % 4 == 0 and "m%d" or "u%d"):format(n)
end

local living = clients
local function client(n)
   popd.sleep(math.random() * 2)
   while core.now() < until_when do
      count("sessions")
      session(user_of(n))
      popd.sleep(math.random() * 0.5)
   end
   living = living - 1
   if living == 0 then
      local words = {}
      for name, value in pairs(counted) do
         words[#words + 1] = ("%s=%d"):format(name, value)
      end
      table.sort(words)
      print("ended " .. table.concat(words, " "))
      io.stdout:flush()
      popd.stop()
   end
end

for n = 1, clients do
   popd.spawn(client, n)
end
