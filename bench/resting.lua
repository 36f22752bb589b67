--- What a connection at rest costs: the resident memory of a server with and
-- without so many clients that have logged in and fetched a message.
--
--     make bench-resting [N=200]
local files = require("support.files")
local process = require("support.process")
local socket = require("socket")
local ssl = require("ssl")
local tls = require("support.tls")

local COUNT = tonumber(arg[1]) or 200

local script = [[
local popd = require("popd")
local server = popd.new("rest", {
   address = "127.0.0.1", port = 0, max_per_address = false, max_per_user = false,
   tls = { cert = arg[1] .. ".pem", key = arg[1] .. ".key", mode = arg[2] },
   auth = { lookup = function(name) return "secret", name end },
   storage = { stat = function() return 1 end, get = function() return ("a line\n"):rep(3000) end },
})
server:up()
]]

local function resident(server)
   return tonumber(files.text(("/proc/%d/status"):format(server.pid)):match("VmRSS:%s*(%d+) kB"))
end

local function say(sock, command, stop)
   assert(sock:send(command .. "\r\n"))
   local line
   repeat
      line = assert(sock:receive("*l"))
   until line:find(stop)
end

local function connect(port, mode)
   local sock = assert(socket.connect("127.0.0.1", port))
   if mode == "implicit" then
      sock = assert(ssl.wrap(sock, { mode = "client", protocol = "any", verify = "none" }))
      assert(sock:dohandshake())
   end
   assert(sock:receive("*l"))
   say(sock, "USER joe", "^%+OK")
   say(sock, "PASS secret", "^%+OK")
   say(sock, "RETR 1", "^%.$")
   return sock
end

-- KiB for each of COUNT clients; one that came before them pays for what is
-- needed once.
local function measure(pair, mode)
   local path = files.put(os.tmpname(), script)
   local server = process.start { path, pair, mode }
   local port = server:wait_port()
   local first, clients = connect(port, mode), {}
   local before = resident(server)
   for i = 1, COUNT do
      clients[i] = connect(port, mode)
   end
   local each = (resident(server) - before) / COUNT
   for i = 1, COUNT do
      clients[i]:close()
   end
   first:close()
   server:stop()
   os.remove(path)
   return each, before
end

local pki = tls.new_pki()
pki:make("server")
for _, mode in ipairs { "stls", "implicit" } do
   local each, before = measure(pki:path("server"), mode)
   print(("%s: %.1f KiB for each of %d clients at rest (the server alone: %d KiB)"):format(
      mode == "stls" and "plain" or "TLS", each, COUNT, before))
end
pki:remove()
