--- TLS for client sockets, in LuaSec's manner.
--
-- Other than in LuaSec the server's certificate is verified unless `verify =
-- "none"` says otherwise: somebody whom the system trusts vouches for it, and it
-- is for the host that `connect` (or `sni`) was told.
-- @module popd.ssl
-- @usage
-- local c = assert(socket.connect("imap.example.org", 993))
-- c = assert(ssl.wrap(c, { mode = "client" }))
-- assert(c:dohandshake())
local core = require("popd.core")

local ssl = { _VERSION = "popd.ssl, as LuaSec 1" }

local known = {
   mode = "string", verify = true, cafile = "string", certificate = "string", key = "string", protocol = "string",
   options = true, ciphers = true, depth = true, curve = true, alpn = true, capath = true, server = true,
}

local newest = { tlsv1_3 = true }
local versions = { any = true, tlsv1_2 = true, tlsv1_3 = true, sslv23 = true }

-- Made once for each set of parameters: reading all authorities takes some time.
local made = {}

local function check(params, level)
   if type(params) ~= "table" then
      error("ssl: a table of parameters expected", level + 1)
   elseif (params.mode or "client") ~= "client" then
      error('ssl: the mode is "client" here; servers are popd.new { tls = }', level + 1)
   elseif not versions[params.protocol or "any"] then
      error(("ssl: protocol '%s' is none of any, tlsv1_2, tlsv1_3"):format(tostring(params.protocol)), level + 1)
   end
   for name, kind in pairs(known) do
      local value = params[name]
      if value ~= nil and kind ~= true and type(value) ~= kind then
         error(("ssl: %s is a %s"):format(name, kind), level + 1)
      end
   end
   if (params.certificate == nil) ~= (params.key == nil) then
      error("ssl: certificate and key go together", level + 1)
   end
end

local function is_verified(verify)
   if type(verify) == "table" then
      for _, one in ipairs(verify) do
         if one == "none" then
            return false
         end
      end
      return true
   end
   return verify ~= "none" and verify ~= false
end

--- What TLS is spoken with, for `wrap`; the same for the same parameters.
-- @tparam[opt] table params `verify` (`"peer"`, the default, or `"none"`), `cafile` (PEM: whom to trust in place of
-- the system's authorities), `certificate` and `key` (PEM: shown to a server that asks), `protocol` (`"any"`, the
-- default: TLS 1.2 and newer, or `"tlsv1_3"`). LuaSec's `options`, `ciphers`, `depth`, `curve`, `alpn` and `capath`
-- are not looked at.
-- @return a context; or nil and the reason
function ssl.newcontext(params)
   params = params or {}
   check(params, 2)
   local verify = is_verified(params.verify)
   local id = table.concat({ tostring(verify), params.cafile or "", params.certificate or "", params.key or "",
      tostring(newest[params.protocol] or false) }, "\0")
   if made[id] then
      return made[id]
   end
   local client, why = core.tls_client {
      verify = verify, ca = params.cafile, cert = params.certificate, key = params.key,
      tls13_only = newest[params.protocol] or false,
   }
   made[id] = client
   return client, why
end

--- Makes TLS of a connected socket; `dohandshake` comes next.
-- @param sock of `popd.socket`
-- @param context of `newcontext`, or its parameters
-- @return the same socket; or nil and the reason
function ssl.wrap(sock, context)
   if type(sock) ~= "table" or not sock.dohandshake then
      error("ssl.wrap: a socket of popd.socket expected", 2)
   end
   if type(context) ~= "userdata" then
      local why
      check(context or {}, 2)
      context, why = ssl.newcontext(context)
      if not context then
         return nil, why
      end
   end
   sock.context = context
   return sock
end

--- Forgets what contexts have read: the next ones read their files anew.
function ssl.forget()
   made = {}
end

return ssl
