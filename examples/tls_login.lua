-- A site whose passwords and tokens come encrypted only, with a limit on tries
-- from one address that holds over all its connections.
--
--     popd-lua cert --out DIR localhost
--     popd-lua passwd --file DIR/users joe
--     head -c 32 /dev/urandom > DIR/token.key
--     popd-lua examples/tls_login.lua DIR [PORT [TLS_PORT]]
--
-- The mail of joe is in the Maildir DIR/mail/joe.  A bearer token is good for a
-- user until a time, and is made by whoever has token.key too (a web mail, say):
--
--     base64(name) .. "." .. time .. "." .. base64(hmac-sha256(key, name .. "." .. time))
--
--     curl --cacert DIR/cert.pem -u joe pop3s://localhost:1995/
--     curl --cacert DIR/cert.pem -u joe --oauth2-bearer TOKEN pop3s://localhost:1995/
local popd = require("popd")
local core = require("popd.core")
local maildir = require("popd.maildir")
local passwd = require("popd.passwd")

local dir = arg[1]
local port, tls_port = math.tointeger(tonumber(arg[2] or 1110)), math.tointeger(tonumber(arg[3] or 1995))
if not dir or not port or not tls_port then
   io.stderr:write("usage: popd-lua examples/tls_login.lua DIR [PORT [TLS_PORT]]\n")
   os.exit(2)
end

local TRIES, WINDOW = 10, 600 -- so many in so many seconds

-- Who may log in: the users' file says who there is, for tokens too.
local auth = assert(passwd.new { file = dir .. "/users" })
local key = assert(popd.fs.read(dir .. "/token.key"))
assert(#key >= 32, "token.key: 32 random octets expected")

function auth.token(asked, bearer)
   local name, ends, seal = bearer:match("^([%w+/=]+)%.(%d+)%.([%w+/=]+)$")
   name, seal = core.unbase64(name or "*"), core.unbase64(seal or "*")
   if not name or not seal or not core.equal(seal, core.hmac("SHA-256", key, name .. "." .. ends)) then
      return nil
   elseif tonumber(ends) < os.time() or asked ~= "" and asked ~= name then
      return nil
   end
   local _, mbox = auth.lookup(name)
   return mbox, name
end

-- Every try counts when it begins, so that many at once are no way round, and is
-- taken off again when it turns out well.  Addresses of IPv6 would better be
-- counted by their first 64 bits.
local tries = {}

local function login(conn)
   local address = conn.remotehost
   if (tries[address] or 0) >= TRIES then
      popd.log("warning", "too many tries", { peer = address })
      return false, "too many tries from your address; come back later", "SYS/TEMP"
   end
   tries[address] = (tries[address] or 0) + 1
end

local function logged_in(conn, _, ok)
   local count = tries[conn.remotehost]
   if ok and count then
      tries[conn.remotehost] = count > 1 and count - 1 or nil
   end
end

popd.every(WINDOW, function()
   tries = {}
end)

local server = popd.new("tls_login", {
   port = port,
   tls = { cert = dir .. "/cert.pem", key = dir .. "/key.pem" }, -- STLS here
   plain_login = "tls", -- nothing to read along, not even on this machine
   auth = auth,
   storage = maildir.new { root = dir .. "/mail/%s" },
   on = { login = login, logged_in = logged_in },
})

server:listen { port = tls_port, tls = "implicit" }
server:up()
popd.run()
