-- How long a client waits for NOOP while a crowd logs in against yescrypt:
--
--     make bench-login
--
-- One process: the clients are part of the loop's work, so a figure is an upper bound.
local popd = require("popd")
local scheme = require("popd.scheme")
local socket = require("socket")

local CROWD = tonumber(arg and arg[1]) or 100

popd.log_to(nil, "error")
local stored = assert(scheme.make("CRYPT", "secret"))
local entered = 0
local server = popd.new {
   port = 0, address = "127.0.0.1", max_per_address = false, max_per_user = false, callback_timeout = 600,
   login_timeout = 600, auth = { verify = function(name, password)
      if name == "quick" then
         return name
      end
      local same, why = scheme.verify(stored, password)
      assert(same ~= nil, why)
      entered = entered + 1
      return same and name
   end },
}:up()

local function connect()
   local client = assert(socket.connect("127.0.0.1", server:cget("port")))
   client:setoption("tcp-nodelay", true)
   client:settimeout(0)
   return client
end

-- The next line; the loop runs until it is there.
local function line(client)
   local text = ""
   while true do
      local found, why, partial = client:receive("*l", text)
      if found then
         return found
      end
      assert(why == "timeout", why)
      text = partial
      popd.step(0.01)
   end
end

local function say(client, command)
   client:send(command .. "\r\n")
   return line(client)
end

local quick, crowd = connect(), {}
line(quick)
say(quick, "USER quick")
assert(say(quick, "PASS x"):find("^%+OK"))

-- Worst and mean milliseconds of NOOPs, one after the other, while `go_on` says so.
local function measure(go_on)
   local worst, sum, n = 0, 0, 0
   while go_on(n) do
      local from = socket.gettime()
      assert(say(quick, "NOOP"):find("^%+OK"))
      local took = (socket.gettime() - from) * 1000
      worst, sum, n = math.max(worst, took), sum + took, n + 1
   end
   return worst, sum / n, n
end

print(("alone: NOOP took %.2f ms at worst, %.3f ms on average"):format(measure(function(n) return n < 10000 end)))
for i = 1, CROWD do
   crowd[i] = connect()
   line(crowd[i])
   say(crowd[i], "USER u" .. i)
end
for _, client in ipairs(crowd) do
   client:send("PASS secret\r\n")
end
local from = socket.gettime()
local worst, mean, n = measure(function() return entered < CROWD end)
print(("beside %d logins in %.2f s: NOOP took %.2f ms at worst, %.3f ms on average, of %d"):format(CROWD,
   socket.gettime() - from, worst, mean, n))
server:destroy()
