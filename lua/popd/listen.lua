--- What opens listening sockets: values for a server's `socket` option.
--
-- Such a value is a function of port and address that returns a listener, or
-- nil and the reason.
-- @module popd.listen
local core = require("popd.core")
local tls_module = require("popd.tls")

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

-- Listener -> { site =, value = }, for reading certificates again.
local secured = setmetatable({}, { __mode = "k" })

--- Serves TLS with certificates of its own: from a connection's first octet, or
-- by STLS where `mode` says so.  A wrong value raises here; the files are read
-- when the server goes up, and `up` raises if one cannot be used.
-- @tparam table tls as the option `tls` (see `popd.tls`); its `mode` is `"implicit"` where absent
-- @func[opt] inner what opens the socket; `tcp` where absent
-- @treturn func a value for `socket`
-- @usage popd.new { port = 995, socket = popd.listen.tls { cert = "cert.pem", key = "key.pem" } }
function listen.tls(tls, inner)
   local wrong = tls_module.check(tls)
   if wrong then
      error("listen.tls: " .. wrong, 2)
   end
   return function(port, address)
      local site = tls_module.site()
      local ok, why = tls_module.load(site, tls)
      if not ok then
         return nil, why
      end
      local listener
      listener, why = (inner or listen.tcp)(port, address)
      if not listener then
         return nil, why
      end
      secured[listener] = { site = site, value = tls }
      return listener:tls(site, tls.mode ~= "stls")
   end
end

--- Reads the certificates of a listener that `listen.tls` opened again.
-- @param listener
-- @treturn boolean true, or nil and the reason
function listen.reload(listener)
   local own = secured[listener]
   if not own then
      return true
   end
   return tls_module.load(own.site, own.value)
end

return listen
