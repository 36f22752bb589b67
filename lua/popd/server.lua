--- Servers: names, options, states; what a script's `popd.new` returns.
-- @module popd.server
local backend = require("popd.backend")
local core = require("popd.core")
local listen = require("popd.listen")
local options = require("popd.options")
local tls = require("popd.tls")
local told = require("popd.told")

local server = {}

local servers = {} -- by name
local open_servers, when_none = 0, nil -- those that still have something open
local when_up -- the program's: what it does when a server went up

-- What belongs to each server object; nothing of it can be reached from outside.
local private = setmetatable({}, { __mode = "k" })

local Server = {}
Server.__index = Server

local function get(self, level)
   local p = private[self]
   if not p or p.destroyed then
      error(("the server%s is destroyed"):format(p and " '" .. p.name .. "'" or ""), (level or 2) + 1)
   end
   return p
end

-- TLS -----------------------------------------------------------------------

local NO_CERTIFICATE = "it shall serve TLS, but the server has no certificate: set its option tls = { cert =, key = }"

-- What an entry serves TLS with: the option's value and the site that holds it;
-- nil where it serves none, false and a reason where it cannot.
local function tls_of(p, entry)
   local own = entry.spec.tls
   if own == false then
      return nil
   elseif type(own) == "table" then
      entry.site = entry.site or tls.site()
      return own, entry.site, own.mode or "stls"
   elseif p.options.tls then
      return p.options.tls, p.site, own or p.options.tls.mode or "stls"
   elseif own then
      return false, NO_CERTIFICATE
   end
end

-- Gives an open entry's listener its site; one that brought its own keeps it.
local function secure(p, entry)
   local value, site, mode = tls_of(p, entry)
   if entry.spec.tls == nil and entry.brought then
      return
   end
   entry.socket:tls(value and site or nil, value and mode == "implicit")
end

-- Reads what the entries serve with, each once: true, or nil and why.  `loaded`
-- has the sites that were read before, and gets these.
local function load_sites(p, entries, loaded)
   loaded = loaded or {}
   for _, entry in ipairs(entries) do
      local value, site = tls_of(p, entry)
      if value == false then
         return nil, site
      end
      if value and not loaded[site] then
         loaded[site] = true
         local ok, why = tls.load(site, value)
         if not ok then
            return nil, why
         end
      end
   end
   return true
end

-- Listeners -----------------------------------------------------------------

-- Opens what a listen{} asks for; a listener of the core, or nil and why.
local function open(p, spec)
   local o = p.options
   local opener = spec.socket or (not spec.own and o.socket) or listen.tcp
   local networks = spec.proxy
   if networks == nil then
      networks = o.proxy
   end
   if networks then
      opener = listen.proxy(networks, opener)
   end
   return opener(spec.own and spec.port or o.port, spec.address or o.address)
end

local function close_all(p)
   for _, entry in ipairs(p.listeners) do
      if entry.socket then
         entry.socket:close()
         entry.socket = nil
      end
   end
end

-- Opens an entry; raises nothing: true, or nil and why.
local function open_entry(p, entry)
   local ok, socket, why = pcall(open, p, entry.spec)
   if not ok then
      return nil, tostring(socket)
   end
   if not socket then
      return nil, why or "the socket function returned nothing"
   end
   if not core.is_listener(socket) then
      return nil, "the socket function returned no listener that is open (popd.listen makes such functions)"
   end
   entry.socket = socket
   entry.brought = socket.secured
   secure(p, entry)
   return true
end

local function serve(p, entry)
   local ok, why = pcall(p.core.add, p.core, entry.socket)
   return ok, why
end

local function tell_listening(p, entry)
   local address = entry.spec.address or p.options.address or "all"
   core.log("info", "listening", { server = p.name, port = entry.socket.port, address = address })
end

-- Making --------------------------------------------------------------------

local function free_name()
   local n = 1
   while servers["pop3d" .. n] do
      n = n + 1
   end
   return "pop3d" .. n
end

local function finish(p)
   if p.core:count() > 0 then
      return
   end
   p.core:forget()
   p.destroyed = true
   if servers[p.name] == p.object then
      servers[p.name] = nil
   end
   open_servers = open_servers - 1
   if p.when_gone then
      p.when_gone()
   end
   if open_servers == 0 and when_none then
      when_none()
   end
end

--- Makes a server.
-- @string[opt] name
-- @tparam[opt] table values options
-- @treturn server one that is down
function server.new(name, values)
   if type(name) == "table" and values == nil then
      name, values = nil, name
   end
   if name ~= nil and type(name) ~= "string" then
      error("popd.new: a name (a string) or options (a table) expected", 2)
   end
   if values ~= nil and type(values) ~= "table" then
      error("popd.new: options are a table", 2)
   end
   if name and servers[name] then
      error(("a server named '%s' exists already"):format(name), 2)
   end
   local self = setmetatable({}, Server)
   local p = { object = self, name = name or free_name(), options = options.defaults(), state = "down" }
   p.listeners = { { spec = {} } }
   p.site = tls.site()
   p.emptied = function()
      finish(p)
   end
   p.changed = function()
      if not p.destroyed then
         told.tell(p)
      end
   end
   private[self] = p
   for key, value in pairs(values or {}) do
      options.check(key, value, 2)
      p.options[key] = value
   end
   p.port = p.options.port
   p.core = core.server_new(backend.steps(p))
   told.tell(p)
   servers[p.name] = self
   open_servers = open_servers + 1
   return self
end

--- The server of that name.
-- @string name
-- @return server or nil
function server.find(name)
   return servers[name]
end

--- A connection of a server whose client is a script (popd.mock).
-- @param object the server; it need not be up
-- @param client_end one end of a `core.pair`; the script has the other
-- @return the connection, which rests until `begin`; and that function
function server.mock(object, client_end)
   local p = get(object)
   local conn = p.core:mock(client_end)
   return conn, function()
      p.core:begin(conn.id)
   end
end

--- Ends a server and tells when nothing of it is left.
-- @param object the server
-- @string mode as `destroy` takes it
-- @func f called then, perhaps at once
function server.leave(object, mode, f)
   get(object).when_gone = f
   object:destroy(mode)
end

--- Ends every server once its open sessions have ended.
-- @func f called when the last one has
function server.drain(f)
   when_none = f
   local list = {}
   for _, one in pairs(servers) do
      list[#list + 1] = one
   end
   for _, one in ipairs(list) do
      one:destroy("defer")
   end
   if not list[1] and open_servers == 0 then
      f()
   end
end

--- Whether any server is up.
-- @treturn boolean
function server.is_any_up()
   for _, one in pairs(servers) do
      if private[one].state == "up" then
         return true
      end
   end
   return false
end

--- Says what to do when a server went up, before its first client.
-- @func f
function server.when_up(f)
   when_up = f
end

-- Methods -------------------------------------------------------------------

--- Opens all its listeners, or none.  Up already: nothing happens.  Raises with
-- the address and the system's reason.
-- @treturn server itself
function Server:up()
   local p = get(self)
   if p.state == "exiting" then
      error(("server '%s' is exiting and cannot go up again"):format(p.name), 2)
   end
   if p.state == "up" then
      return self
   end
   local loaded, wrong = load_sites(p, p.listeners)
   if not loaded then
      error(("server '%s': %s"):format(p.name, wrong), 2)
   end
   for _, entry in ipairs(p.listeners) do
      local ok, why = open_entry(p, entry)
      if not ok then
         close_all(p)
         error(("server '%s': %s"):format(p.name, why), 2)
      end
   end
   for _, entry in ipairs(p.listeners) do
      local ok, why = serve(p, entry)
      if not ok then
         close_all(p)
         error(("server '%s': %s"):format(p.name, tostring(why)), 2)
      end
   end
   p.port = p.listeners[1].socket.port
   p.state = "up"
   if when_up then
      when_up()
   end
   for _, entry in ipairs(p.listeners) do
      tell_listening(p, entry)
   end
   return self
end

--- Stops listening; open connections go on.
function Server:down()
   local p = get(self)
   if p.state == "up" then
      close_all(p)
      p.state = "down"
   end
end

--- Ends the server.
-- @string[opt="kill"] mode `"kill"` closes every connection now, `"defer"`
-- refuses new ones and goes when the last one closes
function Server:destroy(mode)
   local p = get(self)
   mode = mode or "kill"
   if mode ~= "kill" and mode ~= "defer" then
      error(('unknown mode "%s": expected "kill" or "defer"'):format(tostring(mode)), 2)
   end
   close_all(p)
   p.ending, p.state = true, "exiting"
   told.tell(p)
   if mode == "kill" then
      p.core:close_all()
      p.destroyed = true
      servers[p.name] = nil
   end
   finish(p)
end

local function read(p, name, level)
   options.check_name(name, level + 1)
   if name == "state" then
      return p.state
   elseif name == "port" then
      return p.port
   end
   return p.options[name]
end

local function read_all(p)
   local values = {}
   for name, value in pairs(p.options) do
      values[name] = value
   end
   values.state, values.port = p.state, p.port
   return values
end

-- A new value of tls is served with at once, if the server is up.
local function check_tls(p, value)
   if value == nil or p.state ~= "up" then
      return
   end
   if value == false then
      if not p.options.tls then
         return
      end
      error("option 'tls': a server that is up cannot do without; take it down first", 4)
   end
   local ok, why = tls.load(p.site, value)
   if not ok then
      error(("option 'tls': %s"):format(why), 4)
   end
end

-- All or nothing: everything is checked before anything changes.
local function write(p, values)
   for name, value in pairs(values) do
      options.check(name, value, 3)
   end
   check_tls(p, values.tls)
   for name, value in pairs(values) do
      p.options[name] = value
   end
   for _, entry in ipairs(values.tls and p.listeners or {}) do
      if entry.socket then
         secure(p, entry)
      end
   end
   if values.port ~= nil and p.state == "down" then
      p.port = values.port
   end
   told.tell(p)
end

--- An option's value.
-- @string name
function Server:cget(name)
   local value = read(get(self), name, 2) -- no tail call: errors point to the caller's line
   return value
end

--- Reads or writes options: without an argument all of them, with a name that
-- one, with a table sets all that it holds, or none and raises.
-- @tparam[opt] string|table what
function Server:configure(what)
   local p = get(self)
   if what == nil then
      return read_all(p)
   elseif type(what) == "string" then
      local value = read(p, what, 2)
      return value
   elseif type(what) == "table" then
      write(p, what)
      return
   end
   error("configure: nothing, an option's name or a table of options expected", 2)
end

--- Reads all certificates and keys again; new handshakes are served with them,
-- open sessions go on as they are.  What cannot be read or does not fit is
-- logged, and the old one serves on.
-- @treturn boolean true, or nil and the reason
function Server:reload_tls()
   local p = get(self)
   local failed
   local loaded, any = {}, false
   local function note(ok, why)
      if not ok then
         failed = failed or why
         core.log("error", "a certificate was not taken; the old one serves on", { server = p.name, reason = why })
      end
   end
   for _, entry in ipairs(p.listeners) do
      note(load_sites(p, { entry }, loaded))
      if entry.socket then
         note(listen.reload(entry.socket))
         any = any or entry.socket.secured
      end
   end
   if failed then
      return nil, failed
   end
   if any or next(loaded) then
      core.log("info", "certificates were read again", { server = p.name })
   end
   return true
end

--- Reads the certificates of every server again.
function server.reload_all()
   for _, one in pairs(servers) do
      one:reload_tls()
   end
end

--- The ids of its connections, ascending.
-- @treturn table
function Server:conn_list()
   return get(self).core:conn_list()
end

local function check_id(what, id)
   if math.type(id) ~= "integer" then
      error(("%s: a connection's id (an integer) expected"):format(what), 3)
   end
end

--- What is known of a connection.
-- @tparam integer id
-- @treturn table or nil and the reason
function Server:conn_state(id)
   local p = get(self)
   check_id("conn_state", id)
   return p.core:conn_state(id)
end

--- Closes a connection; one that deletes its messages finishes that first.
-- @tparam integer id
-- @string[opt] text told to a client that waits for nothing else
-- @treturn boolean true, or nil and the reason
function Server:conn_close(id, text)
   local p = get(self)
   check_id("conn_close", id)
   if text ~= nil and type(text) ~= "string" then
      error("conn_close: a text expected", 2)
   end
   return p.core:conn_close(id, text)
end

local Listener = {}

function Listener:__index(key)
   local entry = private[self]
   if key == "port" then
      return entry.socket and entry.socket.port or entry.spec.port
   end
   return Listener[key]
end

--- Closes a further listener, for good.
function Listener:close()
   local entry = private[self]
   if entry.socket then
      entry.socket:close()
      entry.socket = nil
   end
   for i, other in ipairs(entry.list) do
      if other == entry then
         table.remove(entry.list, i)
         break
      end
   end
end

local listen_keys = { port = true, address = true, tls = true, proxy = true, socket = true }

--- Adds a further listener, opened at once if the server is up, and with every
-- `up`.
-- @tparam table spec `port`, `address`, `proxy`, `socket`, as the options; `tls`
-- is a mode, `"stls"` or `"implicit"`, with the server's certificates, `false`,
-- or a table of its own; where absent as the server's
-- @return a listener with `port` and `close`; raises if it cannot be opened
function Server:listen(spec)
   local p = get(self)
   if type(spec) ~= "table" then
      error("listen: a table { port = } expected", 2)
   end
   local copy = { own = true, port = 0 }
   for key, value in pairs(spec) do
      if not listen_keys[key] then
         error(("listen: unknown key '%s'; there are: address, port, proxy, socket, tls"):format(tostring(key)), 2)
      end
      if key == "tls" and type(value) == "string" then
         if value ~= "stls" and value ~= "implicit" then
            error('listen: tls is "stls", "implicit", false, or a table { cert =, key = }', 2)
         end
      elseif value ~= false then
         options.check(key, value, 2)
      end
      copy[key] = value
   end
   local entry = { spec = copy, list = p.listeners }
   if p.state == "up" then
      local ok, why = load_sites(p, { entry })
      if ok then
         ok, why = open_entry(p, entry)
      end
      if not ok then
         error(("server '%s': %s"):format(p.name, why), 2)
      end
      ok, why = serve(p, entry)
      if not ok then
         error(("server '%s': %s"):format(p.name, tostring(why)), 2)
      end
      tell_listening(p, entry)
   end
   p.listeners[#p.listeners + 1] = entry
   local object = setmetatable({}, Listener)
   private[object] = entry
   return object
end

Server.__name = "popd.server"

function Server:__tostring()
   local p = private[self]
   return ("popd server '%s' (%s)"):format(p.name, p.destroyed and "destroyed" or p.state)
end

return server
