-- What the bench has popd-lua serve: Maildirs below ROOT, users by one look-up.
--
--     popd-lua bench/site.lua ROOT PORT [CERT KEY [TLS_PORT]]
--
-- With a certificate PORT is for TLS, or TLS_PORT, if there is one.
local popd = require("popd")
local maildir = require("popd.maildir")

local root, port, cert, key = arg[1], math.tointeger(tonumber(arg[2])), arg[3], arg[4]
local tls_port = math.tointeger(tonumber(arg[5]))

local options = {
   address = "127.0.0.1",
   port = port,
   max_connections = 20000,
   max_per_address = false,
   auth = {
      lookup = function(name)
         return "secret", name
      end,
   },
   storage = maildir.new { root = root .. "/%s" },
}
if cert then
   options.tls = { cert = cert, key = key, mode = tls_port and "stls" or "implicit" }
end

local server = popd.new("bench", options)
if tls_port then
   server:listen { address = "127.0.0.1", port = tls_port, tls = "implicit" }
end
server:up()
popd.run()
