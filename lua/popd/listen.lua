--- What opens listening sockets: values for a server's `socket` option.
--
-- Such a value is a function of port and address that returns a listener, or
-- nil and the reason.
-- @module popd.listen
local core = require("popd.core")

local listen = {}

--- Listens on TCP.
-- @function tcp
-- @tparam integer port 0: the system chooses
-- @string[opt] address a name or number; absent: all, of both families
-- @return a listener with `port` and `close`, or nil and the reason
listen.tcp = core.listen_tcp

--- Listens on a Unix socket; port and address are not used.
-- @string path
-- @treturn func a value for `socket`
function listen.unix(path)
   return function()
      return core.listen_unix(path)
   end
end

--- Uses a listening socket that the process was started with.
-- @tparam integer number its descriptor
-- @treturn func a value for `socket`
function listen.fd(number)
   return function()
      return core.listen_fd(number)
   end
end

--- Expects a PROXY header (version 1 or 2) before all else.
-- @tparam table networks whose connections are believed, `{ "10.0.0.0/8" }`
-- @func[opt] inner what opens the socket; `tcp` where absent
-- @treturn func a value for `socket`
function listen.proxy(networks, inner)
   if type(networks) ~= "table" then
      error('listen.proxy: a list of networks, { "10.0.0.0/8" }, expected', 2)
   end
   return function(port, address)
      local listener, why = (inner or listen.tcp)(port, address)
      if not listener then
         return nil, why
      end
      local proxied
      proxied, why = listener:proxy(networks)
      if not proxied then
         listener:close()
      end
      return proxied, why
   end
end

return listen
