-- What the bench has popd-lua serve: Maildirs below ROOT, users by one look-up.
--
--     popd-lua bench/site.lua ROOT PORT [CERT KEY]
local popd = require("popd")
local maildir = require("popd.maildir")

local root, port, cert, key = arg[1], math.tointeger(tonumber(arg[2])), arg[3], arg[4]

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
   options.tls = { cert = cert, key = key, mode = "implicit" }
end

popd.new("bench", options):up()
popd.run()
