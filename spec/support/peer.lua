--- The other side of popd's sockets, played by the spec itself, and tasks that the spec waits for.
--
--     local listener = peer.listen()
--     local task = peer.task(function() return socket.connect("127.0.0.1", listener.port):receive() end)
--     listener:accept():send("hello\r\n")
--     assert.same({ "hello" }, task:results())
local client = require("support.client")
local socket = require("socket")

local peer = {}

-- Listeners ------------------------------------------------------------------

local Listener = {}
Listener.__index = Listener

local function new_listener(sock)
   sock:settimeout(0)
   client.check_at_end(function() sock:close() end)
   return setmetatable({ socket = sock }, Listener)
end

--- Listens on a port of 127.0.0.1, or of another address.
function peer.listen(address)
   local self = new_listener(assert(socket.bind(address or "127.0.0.1", 0)))
   self.address, self.port = self.socket:getsockname()
   self.port = math.tointeger(tonumber(self.port))
   return self
end

--- Listens on a Unix socket; `queue`: how many may wait to be accepted.
function peer.listen_unix(path, queue)
   local sock = require("socket.unix")()
   assert(sock:bind(path))
   assert(sock:listen(queue))
   return new_listener(sock)
end

--- The next connection, as support.client has them.
function Listener:accept()
   return client.wrap(client.wait_for("a connection", function()
      return (self.socket:accept())
   end))
end

--- Whether nobody connects; the loop runs dry first.
function Listener:idle()
   for _ = 1, 20 do
      require("popd").step(0)
   end
   return self.socket:accept() == nil
end

function Listener:close()
   self.socket:close()
end

--- A port on which nobody listens.
function peer.dead_port()
   local listener = peer.listen()
   listener:close()
   return listener.port
end

-- Tasks ----------------------------------------------------------------------

local Task = {}
Task.__index = Task

--- Runs f as a party of its own.
function peer.task(f, ...)
   local self = setmetatable({}, Task)
   self.job = require("popd").spawn(function(...)
      self.packed = table.pack(pcall(f, ...))
   end, ...)
   return self
end

function Task:wait()
   client.wait_for("a task", function() return self.packed end)
   return self
end

--- What f returned, as an array with `n`; raises what it raised.
function Task:results()
   self:wait()
   if not self.packed[1] then
      error(self.packed[2], 0)
   end
   return table.move(self.packed, 2, self.packed.n, 1, { n = self.packed.n - 1 })
end

--- The same, unpacked.
function Task:values()
   local all = self:results()
   return table.unpack(all, 1, all.n)
end

--- What f raised.
function Task:raised()
   self:wait()
   assert(not self.packed[1], "nothing was raised")
   return self.packed[2]
end

--- Steps until nothing happens any more by itself.
function peer.settle()
   for _ = 1, 10 do
      require("popd").step(0)
   end
end

--- Runs f as a task to its end and returns what it does.
function peer.run(f, ...)
   return peer.task(f, ...):values()
end

return peer
