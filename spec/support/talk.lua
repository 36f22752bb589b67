--- A client that waits for each answer, for a server in a process of its own.
local socket = require("socket")

local talk = {}

local SAFETY = 60

--- Connects, and takes the greeting.
function talk.connect(port)
   local sock = assert(socket.connect("127.0.0.1", port))
   sock:settimeout(SAFETY)
   sock:setoption("tcp-nodelay", true)
   assert(sock:receive("*l"))
   return sock
end

--- Says a command.
-- @treturn string the answer's first line
function talk.say(sock, command)
   assert(sock:send(command .. "\r\n"))
   return assert(sock:receive("*l"))
end

--- Connects and logs in, with the password secret.
-- @treturn[1] userdata the socket
-- @treturn[2] nil refused
function talk.login(port, user)
   local sock = talk.connect(port)
   talk.say(sock, "USER " .. user)
   if talk.say(sock, "PASS secret"):find("^%+OK") then
      return sock
   end
   sock:close()
   return nil
end

return talk
