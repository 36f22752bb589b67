-- A Maildir site: what a mail server delivers below ROOT/<domain>/<name>, or
-- below ROOT/<name> for names without a domain, is fetched by the users of a
-- file with lines of name:password:mbox.
--
--     popd-lua examples/maildir.lua ROOT USERS [PORT]
--
-- Passwords come unencrypted from this machine only (plain_login); for others
-- add TLS, as tls_login.lua does.
local popd = require("popd")
local maildir = require("popd.maildir")
local passwd = require("popd.passwd")

local root, users, port = arg[1], arg[2], math.tointeger(tonumber(arg[3] or 110))
if not root or not users or not port then
   io.stderr:write("usage: popd-lua examples/maildir.lua ROOT USERS [PORT]\n")
   os.exit(2)
end

-- Two layouts, one lock file: an mbox with a domain has a directory of its own.
local lock = root .. "/.popd-lock"
local with_domain = maildir.new { root = root .. "/%d/%n", lock = lock }
local without = maildir.new { root = root .. "/%s", lock = lock }

-- Every function of one layout asks the back end that the mbox belongs to.
local storage = {}
for name in pairs(with_domain) do
   storage[name] = function(mbox, ...)
      local store = mbox:find("@", 1, true) and with_domain or without
      return store[name](mbox, ...)
   end
end

local server = popd.new("site", {
   port = port,
   auth = assert(passwd.new { file = users }), -- read again when it changes
   storage = storage,
   expire = "NEVER", -- CAPA says that nothing is removed but by the user
   max_per_address = 20,
   max_failures = 3, -- refused logins of one connection
   failure_delay = 2, -- seconds before the answer to one
   idle_timeout = 600,
   on = {
      logged_in = function(conn, name, ok, why)
         if not ok and why == "password" then
            popd.log("warning", "a wrong password", { user = name, peer = conn.remotehost })
         end
      end,
   },
})

server:up()
popd.run()
