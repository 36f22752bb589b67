--- Other servers that specs start: each a process of its own, ended by its id.
local client = require("support.client")
local files = require("support.files")
local socket = require("socket")

local service = {}

-- Seconds after which whatever still runs is ended.
local SAFETY = 240

local Service = {}
Service.__index = Service

--- Starts a command.  What it writes is in `log_file`.
-- @tparam table words
-- @return a service with `pid`
function service.start(words)
   local quoted = {}
   for i, word in ipairs(words) do
      quoted[i] = files.quote(tostring(word))
   end
   local self = setmetatable({ log_file = os.tmpname(), name = words[1] }, Service)
   self.pipe = assert(io.popen((
      "env -u LD_PRELOAD timeout --foreground -k 5 %d sh -c 'echo $$; exec \"$@\"' sh %s 2>%s </dev/null"):format(
      SAFETY, table.concat(quoted, " "), files.quote(self.log_file))))
   self.pid = math.tointeger(tonumber(self.pipe:read("l"))) -- the shell becomes the command
   return self
end

--- Waits until connect() gives a connection, which is closed.
function Service:wait_for(connect)
   client.wait_for(self.name .. " to listen", function()
      local sock = connect()
      return sock and sock:close()
   end)
   return self
end

--- Waits until it listens on a port of 127.0.0.1.
function Service:wait_port(port)
   return self:wait_for(function() return (socket.connect("127.0.0.1", port)) end)
end

--- Sends it a signal.  STOP and CONT hold it up and let it go on.
function Service:signal(name)
   assert(os.execute(("kill -%s %d"):format(name, self.pid)))
end

--- All that it wrote to standard error.
function Service:log()
   return files.text(self.log_file)
end

--- Ends it.
function Service:stop()
   os.execute(("kill -CONT %d 2>/dev/null; kill -TERM %d 2>/dev/null"):format(self.pid, self.pid))
   self.pipe:close()
   os.remove(self.log_file)
end

return service
