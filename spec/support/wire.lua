--- A POP3 conversation as octets: all commands in one go, then all that the
-- server sends until it closes.
local socket = require("socket")

local wire = {}

local SAFETY = 60

local function read_all(sock)
   local chunks = {}
   while true do
      local chunk, err, part = sock:receive(1048576)
      chunks[#chunks + 1] = chunk or part
      if err == "closed" then
         return table.concat(chunks)
      elseif err then
         error(("the server does not go on (%s) after %q"):format(err, table.concat(chunks):sub(-200)), 3)
      end
   end
end

--- Sends octets, reads to the end of the connection.
function wire.talk(port, octets)
   local sock = assert(socket.connect("127.0.0.1", port))
   sock:setoption("tcp-nodelay", true)
   sock:settimeout(SAFETY)
   assert(sock:send(octets))
   local answer = read_all(sock)
   sock:close()
   return answer
end

local Replies = {}
Replies.__index = Replies

--- Takes an answer apart.
function wire.replies(answer)
   return setmetatable({ text = answer, at = 1 }, Replies)
end

--- The next line, with its CRLF.
function Replies:line()
   local stop = assert(select(2, self.text:find("\r\n", self.at, true)), "the answer ends too early")
   local line = self.text:sub(self.at, stop)
   self.at = stop + 1
   return line
end

--- What follows up to and with the lone dot, as it came.
function Replies:multi()
   local stop = assert(select(2, self.text:find("\r\n.\r\n", self.at - 2, true)), "the answer ends too early")
   local octets = self.text:sub(self.at, stop)
   self.at = stop + 1
   return octets
end

--- What was not taken yet.
function Replies:rest()
   return self.text:sub(self.at)
end

return wire
