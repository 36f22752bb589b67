--- TLS for specs: certificates made by openssl, and clients over LuaSec that
-- drive the loop while they wait, as support.client's do.
--
--     local pki = tls.new_pki()
--     local server = store.server({ "a" }, { tls = pki:pair("server") })
--     local c = tls.start(server)
--     c:login("joe", "secret")
local client = require("support.client")
local files = require("support.files")
local ssl = require("ssl")
local store = require("support.store")

local tls = {}

-- Certificates --------------------------------------------------------------

local KINDS = { ec = "ec -pkeyopt ec_paramgen_curve:P-256", rsa = "rsa:2048" }

local Pki = {}
Pki.__index = Pki

function Pki:begin()
   self.dir = files.new_dir()
   files.run("openssl req -x509 -newkey " .. KINDS.ec .. " -nodes -days 30 -subj /CN=ca"
      .. " -keyout %s -out %s 2>/dev/null", self:path("ca.key"), self:path("ca.pem"))
   return self
end

--- A directory with an authority, "ca"; `remove` it after.
function tls.new_pki()
   return setmetatable({}, Pki):begin()
end

--- For blocks that each have such a one, with "server" and "other": `start` and `stop` are for
-- lazy_setup and lazy_teardown.
function tls.pki_of_blocks()
   local self = setmetatable({}, Pki)
   function self.start()
      self:begin()
      self:make("server")
      self:make("other")
   end
   function self.stop()
      self:remove()
   end
   return self
end

function Pki:remove()
   files.remove(self.dir)
end

function Pki:path(name)
   return self.dir .. "/" .. name
end

--- Makes NAME.pem and NAME.key, signed by the authority.
-- @string name its CN, too
-- @tparam[opt] table options `kind` ("ec", "rsa"), `names` (subjectAltName), `subject`,
-- `expired`, `authority`, and `by`: whose key signs
function Pki:make(name, options)
   local o = options or {}
   local by = o.by or "ca"
   files.put(self:path(name .. ".ext"), "subjectAltName=" .. (o.names or "DNS:" .. name)
      .. "\nbasicConstraints=CA:" .. (o.authority and "TRUE" or "FALSE") .. "\n")
   files.run("openssl req -newkey " .. KINDS[o.kind or "ec"] .. " -nodes -keyout %s -out %s -subj %s 2>/dev/null",
      self:path(name .. ".key"), self:path(name .. ".csr"), o.subject or "/CN=" .. name)
   local sign = "openssl x509 -req -in %s -CA %s -CAkey %s -CAcreateserial -extfile %s -out %s %s 2>/dev/null"
   local words = { self:path(name .. ".csr"), self:path(by .. ".pem"), self:path(by .. ".key"),
      self:path(name .. ".ext"), self:path(name .. ".pem") }
   for i, word in ipairs(words) do
      words[i] = files.quote(word)
   end
   local function signs(dates)
      words[6] = dates
      return sign:format(table.unpack(words))
   end
   -- OpenSSL before 3.4 knows no dates of its own, later ones no days that are past.
   files.run(not o.expired and signs("-days 30")
      or signs("-not_before 20190101000000Z -not_after 20200101000000Z") .. " || " .. signs("-days -1"))
   return self:pair(name)
end

--- The pair as the option `tls`, with more keys.
function Pki:pair(name, more)
   local value = { cert = self:path(name .. ".pem"), key = self:path(name .. ".key") }
   for key, v in pairs(more or {}) do
      value[key] = v
   end
   return value
end

-- Clients -------------------------------------------------------------------

-- Shakes hands: true, or nil and LuaSec's reason.
local function shake(sock)
   local ok, why
   client.wait_for("a TLS handshake", function()
      ok, why = sock:dohandshake()
      return ok or (why ~= "wantread" and why ~= "wantwrite" and why ~= "timeout")
   end)
   return ok or nil, why
end

--- Makes a client's connection a TLS one.
-- @param c a client of support.client
-- @tparam[opt] table options LuaSec's; `sni` besides
-- @return the client, or nil and the reason
function tls.secure(c, options)
   local params = { mode = "client", protocol = "any", verify = "none" }
   for key, value in pairs(options or {}) do
      params[key] = value
   end
   c.plain = c.socket
   c.socket = assert(ssl.wrap(c.plain, params))
   c.socket:settimeout(0)
   if params.sni then
      c.socket:sni(params.sni)
   end
   local ok, why = shake(c.socket)
   return ok and c, why
end

--- A TLS connection to a port or server; the greeting is not read.
function tls.open(port, options)
   return tls.secure(client.open(port), options)
end

--- The same with its greeting read: the client, and that line.
function tls.connect(port, options)
   local c, why = tls.open(port, options)
   if not c then
      error("no TLS: " .. tostring(why), 2)
   end
   return c, c:line()
end

--- A TLS connection that is logged in.
function tls.login(port, options)
   local c = tls.connect(port, options)
   c:login("joe", "secret")
   return c
end

--- Says STLS on a connection and shakes hands.
-- @return the client, or nil and the reason
function tls.stls(c, options)
   local reply = c:command("STLS")
   assert(reply:find("^%+OK"), reply)
   return tls.secure(c, options)
end

--- A connection to a port or server that said STLS.
function tls.start(port, options)
   return tls.stls((client.connect(port)), options)
end

--- Sends a bare FIN: no close_notify says that this is the end.
function tls.cut(c)
   c.plain:setfd(c.socket:getfd())
   assert(c.plain:shutdown("send"))
   c.plain:setfd(ssl.SOCKET_INVALID or -1)
end

--- The CN of the certificate that the server showed.
function tls.name(c)
   for _, part in ipairs(c.socket:getpeercertificate():subject()) do
      if part.name == "commonName" then
         return part.value
      end
   end
end

--- A client's first record by hand: the name that it asks for, any octets, and
-- the methods of compression that it offers.
function tls.hello(name, compressions)
   local list = ("\0" .. (">s2"):pack(name))
   local extensions = (">I2s2"):pack(0, (">s2"):pack(list))
      .. "\0\10\0\4\0\2\0\x17" .. "\0\11\0\2\1\0" .. "\0\13\0\4\0\2\4\3"
   local body = "\3\3" .. ("r"):rep(32) .. "\0" .. "\0\2\xc0\x2b" .. ("s1"):pack(compressions or "\0")
      .. (">s2"):pack(extensions)
   return "\x16\3\1" .. (">s2"):pack("\1" .. (">s3"):pack(body))
end

-- Servers -------------------------------------------------------------------

--- A server with the pair "server": the server, and its store.
-- @tparam[opt] table more of the option `tls`
-- @tparam[opt] table options
-- @tparam[opt] table messages joe's
function Pki:serve(more, options, messages)
   local all = { tls = self:pair("server", more) }
   for key, value in pairs(options or {}) do
      all[key] = value
   end
   return store.server(messages or { "a" }, all)
end

--- The same with TLS from the start.
function Pki:implicit(more, options, messages)
   local all = { mode = "implicit" }
   for key, value in pairs(more or {}) do
      all[key] = value
   end
   return self:serve(all, options, messages)
end

--- What a server tells of its newest connection.
function tls.state(server)
   local ids = server:conn_list()
   return server:conn_state(ids[#ids])
end

--- CAPA's lines, as keys.
function tls.capabilities(c)
   local _, lines = c:command("CAPA")
   local set = {}
   for _, line in ipairs(lines) do
      set[line] = true
   end
   return set
end

--- Waits for the first handshake that fails: its line in the log.
function tls.failure()
   return client.wait_for("a failure in the log", function()
      return client.logged("a TLS handshake failed")[1]
   end)
end

-- Other programs ------------------------------------------------------------

--- Runs a shell command beside the loop, to its end.
-- @return what it wrote, errors and all
function tls.beside(command, ...)
   local dir = files.new_dir()
   local words = {}
   for i = 1, select("#", ...) do
      words[i] = files.quote(tostring((select(i, ...))))
   end
   assert(os.execute(("{ env -u LD_PRELOAD timeout 120 sh -c %s >%s/out 2>&1; : >%s/done; } </dev/null &"):format(
      files.quote(command:format(table.unpack(words))), dir, dir)))
   for _ = 1, 20 do
      if pcall(client.wait_for, command, function() return files.exists(dir .. "/done") end) then
         break
      end
   end
   local out = files.text(dir .. "/out")
   files.remove(dir)
   return out
end

return tls
