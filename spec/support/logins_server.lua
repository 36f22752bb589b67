-- The servers that clients log in to, for logins.lua: DIR COUNT.  In DIR are the
-- messages 1 to COUNT and the certificates; each login becomes a line in
-- DIR/logins before the client is answered, and so does each message fetched.
local core = require("popd.core")
local popd = require("popd")

local dir, count = arg[1], math.tointeger(tonumber(arg[2]))
local servers = {}

local auth = {
   lookup = function(name)
      if name == "joe" then
         return "secret", "joe"
      end
   end,
   token = function(name, bearer)
      if (name == "joe" or name == "") and bearer == "secret" then
         return "joe", "joe"
      end
   end,
   certificate = function(name, client)
      if client.name == "joe" and (name == "joe" or name == "") then
         return "joe", "joe"
      end
   end,
}

local function transport(conn)
   return not conn.tls and "plain" or conn.server:match("%a+$")
end

local function note(conn, mechanism, what)
   local file = assert(io.open(dir .. "/logins", "a"))
   assert(file:write(mechanism, " ", transport(conn), " ", what, "\n"))
   assert(file:close())
end

-- Nothing is locked or deleted: all cases share the messages.
local storage = {
   stat = function()
      return count
   end,
   get = function(_, id, conn)
      note(conn, conn.logon, id)
      return { path = dir .. "/" .. id }
   end,
}

-- DIR/sasl, if it is there, holds the mechanisms that CAPA tells.
local function tell(lines)
   local file = io.open(dir .. "/sasl")
   if not file then
      return
   end
   for n, line in ipairs(lines) do
      if line:find("^SASL ") then
         lines[n] = "SASL " .. file:read("a")
      end
   end
   file:close()
end

-- Those that are there; once there is none, whoever waits for that is told.
local present, all_gone = {}, nil

local on = {
   connect = function(conn)
      present[conn] = true
   end,
   disconnect = function(conn)
      present[conn] = nil
      if all_gone and not next(present) then
         all_gone:fire()
      end
   end,
   login = function(conn, _, mechanism)
      conn.data.mechanism = mechanism
   end,
   logged_in = function(conn, _, ok, why)
      note(conn, conn.data.mechanism or "?", ok and "entered" or "refused: " .. why)
   end,
   capa = function(_, lines)
      tell(lines)
   end,
}

local function serve(site, mode, more)
   local options = {
      address = "127.0.0.1",
      port = 0,
      auth = auth,
      storage = storage,
      on = on,
      failure_delay = 0,
      tls = { cert = dir .. "/server.pem", key = dir .. "/server.key", mode = mode == "tls" and "implicit" or "stls" },
   }
   for key, value in pairs(more or {}) do
      options[key] = value
   end
   options.tls.client_ca = site == "cert" and dir .. "/ca.pem" or nil
   servers[#servers + 1] = popd.new(site .. "-" .. mode, options):up()
end

local bare = { commands = { APOP = false, AUTH = false } }

local unbound_auth = { mechanisms = { ["SCRAM-SHA-1-PLUS"] = false, ["SCRAM-SHA-256-PLUS"] = false } }
for name, f in pairs(auth) do
   unbound_auth[name] = f
end

local unbound = { auth = unbound_auth }
local hasty = { login_timeout = 2 }

for _, mode in ipairs { "stls", "tls" } do
   serve("all", mode)
   serve("bare", mode, bare) -- without APOP and AUTH
   serve("cert", mode) -- asks for certificates
   serve("hasty", mode, hasty)
   serve("unbound", mode, unbound)
end

-- Whoever asks is answered once all clients have gone.
popd.new("control", {
   address = "127.0.0.1",
   port = 0,
   commands = {
      XQUIET = {
         states = "auth",
         run = function()
            if next(present) then
               all_gone = core.latch()
               all_gone:wait()
               all_gone = nil
            end
            return "quiet"
         end,
      },
   },
}):up()
