-- The server of `make soak`: callbacks that wait, fail, loop and hang at random,
-- and counters of what is left behind.
--
--     popd-lua spec/soak/server.lua DIR ECHO_PORT SEED
local popd = require("popd")
local core = require("popd.core")
local maildir = require("popd.maildir")
local socket = require("popd.socket")

local dir, echo_port, seed = arg[1], math.tointeger(arg[2]), math.tointeger(arg[3])
math.randomseed(seed)
popd.memory_limit(400 * 1024 * 1024)

local counted = { locks = 0, unlocks = 0, held = 0, sessions = 0, foreign = 0, faults = 0, trips = 0, waits = 0 }

local function count(what)
   counted[what] = counted[what] + 1
end

local function chance(one_in)
   return math.random(one_in) == 1
end

-- Mischief --------------------------------------------------------------------

local pool = popd.pool {
   max = 40, idle = 2,
   open = function()
      local c, why = socket.connect("127.0.0.1", echo_port)
      if c then
         c:receive()
      end
      return c, why
   end,
   close = function(c) c:close() end,
}
local mutex = popd.mutex()
local threads = popd.thread("spec.soak.slow", { threads = 3 })

local function echo()
   local tag = ("%x"):format(math.random(0))
   pool:with(function(c)
      c:settimeout(chance(50) and 0.001 or 5)
      local line = assert(c:send("XECHO " .. tag .. "\r\n")) and assert(c:receive())
      if line ~= "+OK " .. tag then
         count("foreign")
      end
   end)
end

local function forever()
   while true do end
end

local function hide()
   while true do
      pcall(forever)
   end
end

local mischiefs = {
   { 8, function() popd.sleep(math.random() * 0.05) end, "waits" },
   { 60, echo, "waits" },
   { 60, function() mutex:with(popd.sleep, 0.0005) end, "waits" },
   { 80, function() assert(threads.double(4) == 8) end, "waits" },
   { 80, function() coroutine.wrap(function() popd.sleep(0.001) end)() end, "waits" },
   { 40, function() error("a planted error") end, "faults" },
   { 200, function() error { code = "SYS/PERM", text = "a planted refusal" } end, "faults" },
   { 3000, function() popd.sleep(60) end, "trips" },
   { 6000, function() threads.hang(3) end, "trips" },
   { 3000, forever, "trips" },
   { 6000, hide, "trips" },
   { 6000, function() local s = "x" while true do s = s .. s end end, "trips" },
   { 6000, function() return coroutine.wrap(forever)() end, "trips" },
}

local function mischief()
   for _, row in ipairs(mischiefs) do
      if chance(row[1]) then
         count(row[3])
         row[2]()
      end
   end
end

-- Storage ---------------------------------------------------------------------

local function text(mbox, id)
   return ("Subject: %s/%d\n\n%s\n.a dot\n"):format(mbox, id, (mbox .. " " .. id .. "\n"):rep(id * 40))
end

-- As sent: CRLF; the message's number and user make it what no other is.
local handles = {
   function(message) return message end,
   function(message)
      local at = 1
      return function()
         if chance(30) then
            popd.sleep(0.001)
         end
         if chance(3000) then
            return nil, "a planted failure midway"
         end
         local piece = message:sub(at, at + 999)
         at = at + 1000
         return piece ~= "" and piece or nil
      end
   end,
   function(message)
      local at = 1
      return {
         read = function(_, n)
            local piece = message:sub(at, at + n - 1)
            at = at + n
            return piece ~= "" and piece or nil
         end,
         close = mischief,
      }
   end,
   function(message)
      local head, body = message:match("^(.-\n)\n(.*)$")
      return { headers = { { "Subject", head:match(": (.*)\n") } }, body = body }
   end,
}

local held = {} -- by mbox
local files = maildir.new { root = dir .. "/%s" }

local function is_file(mbox)
   return mbox:find("^m") ~= nil
end

local storage = {}

function storage.lock(mbox, conn)
   mischief()
   if held[mbox] then
      return false
   end
   if is_file(mbox) and not files.lock(mbox, conn) then
      return false
   end
   held[mbox] = true
   count("locks")
   counted.held = counted.held + 1
   return true
end

function storage.unlock(mbox)
   assert(held[mbox], "unlock without lock")
   held[mbox] = nil
   count("unlocks")
   counted.held = counted.held - 1
   if is_file(mbox) then
      files.unlock(mbox)
   end
   mischief()
end

function storage.stat(mbox)
   mischief()
   return is_file(mbox) and files.stat(mbox) or 4
end

function storage.size(mbox, id)
   mischief()
   if is_file(mbox) then
      return files.size(mbox, id)
   end
   local sum = 0
   for i = id or 1, id or 4 do
      sum = sum + popd.octets(text(mbox, i))
   end
   return sum
end

function storage.uidl(mbox, id)
   mischief()
   return is_file(mbox) and files.uidl(mbox, id) or "u" .. id
end

function storage.get(mbox, id)
   mischief()
   if is_file(mbox) then
      return files.get(mbox, id)
   end
   return handles[math.random(#handles)](text(mbox, id))
end

function storage.dele()
   mischief()
   return true -- they come back: the next session finds the same again
end

function storage.renew()
   mischief()
   return not chance(500)
end

local hooks = {}
for _, name in ipairs { "connect", "login", "logged_in", "retrieved", "quit", "disconnect" } do
   hooks[name] = function()
      if chance(4) then
         mischief()
      end
      if name == "disconnect" then
         count("sessions")
      end
   end
end

local server = popd.new("soak", {
   port = 0, address = "127.0.0.1",
   auth = { lookup = function(name)
      mischief()
      return "secret", name
   end },
   storage = storage, on = hooks, commands = { XMISCHIEF = function() mischief() return "done" end },
   max_per_address = false, max_connections = false, max_per_user = false, failure_delay = 0.01,
   callback_timeout = 1, callback_instructions = 2e6, renew_interval = 0.5, login_timeout = 20, idle_timeout = 20,
   write_timeout = 20, tls = { cert = dir .. "/cert.pem", key = dir .. "/key.pem" },
}):up()

-- Counters ---------------------------------------------------------------------

local function coroutines()
   local n = 0
   for _, value in pairs(debug.getregistry()) do
      n = n + (type(value) == "thread" and 1 or 0)
   end
   return n
end

local function counters()
   collectgarbage()
   collectgarbage()
   local now = {
      connections = #server:conn_list(), tasks = core.count() - 1, descriptors = #popd.fs.scandir("/proc/self/fd"),
      coroutines = coroutines(), lua = math.floor(collectgarbage("count") * 1024),
   }
   now.heap = core.heap() - now.lua -- what C holds
   local words = {}
   for _, from in ipairs { counted, now } do
      for name, value in pairs(from) do
         words[#words + 1] = ("%s=%d"):format(name, value)
      end
   end
   table.sort(words)
   return table.concat(words, " ")
end

local control = popd.new("control", {
   port = 0, address = "127.0.0.1", login_timeout = false,
   commands = { XCOUNTERS = { run = counters, states = "auth" } },
}):up()

print(("port=%d control=%d"):format(server:cget("port"), control:cget("port")))
io.stdout:flush()
