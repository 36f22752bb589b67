--- The servers that the bench compares: how each is configured, started, ended.
--
-- All run on the same core, as the same user, on 127.0.0.1, over the same mail.
-- @module bench.servers
local dovecot_config = require("support.dovecot_config")
local files = require("support.files")
local measure = require("bench.measure")
local process = require("support.process")
local socket = require("socket")

local servers = {}

local BUILD = os.getenv("POPD_BUILD") or "build"

--- Who they serve as: root would not do for Dovecot.
local AS_ROOT = files.first_line("id -u") == "0"
local USER, GROUP = dovecot_config.serves_as()

function servers.program(name)
   return BUILD .. "/bench/" .. name
end

--- Copies what the servers run to where any user may read it.
-- @string dir
function servers.install(dir)
   files.run("mkdir -p %s", dir)
   local limits = { servers.program("limit"), servers.program("uring") }
   for _, file in ipairs { limits[1], limits[2], process.program(), "bench/site.lua", "bench/pop3d.tcl" } do
      files.run("cp %s %s", file, dir)
   end
   files.run("chmod -R a+rX %s", dir)
end

-- Each server: `missing()` says why it is not there, `command(site)` starts it. A
-- site has dir (its own), bin (the programs), mail, files (as tcllib has them), port,
-- load (the workload), repeats, users, cert, key, tls_port (where `port` is plain all the
-- same). `load` are words for the generator; `aside`: it is run only if it is named.

-- The limit ---------------------------------------------------------------------------

local function never()
   return nil
end

local function limit_command(site)
   local words = { site.bin .. "/limit", "--workload", site.load, "--port", site.port, "--repeat", site.repeats }
   if site.cert then
      table.move({ "--cert", site.cert, "--key", site.key }, 1, 4, #words + 1, words)
   end
   return words
end

servers.limit = { missing = never, command = limit_command }

-- The same by io_uring; a question of its own.
servers.uring = {
   missing = never, aside = true,
   command = function(site)
      local words = limit_command(site)
      words[1] = site.bin .. "/uring"
      return words
   end,
}

servers.convert = {
   missing = never,
   load = { "--ends-only" }, -- its messages are all the same
   command = function(site)
      local words = limit_command(site)
      local message = measure.lines_of(("ls %s/u0/cur/*"):format(site.mail))[1]
      return table.move({ "--convert", message }, 1, 2, #words + 1, words)
   end,
}

-- popd-lua -----------------------------------------------------------------------------

servers.popd = {
   missing = never,
   command = function(site)
      local words = { site.bin .. "/popd-lua", "--log", "warning", site.bin .. "/site.lua", site.mail, site.port }
      return table.move({ site.cert, site.key, site.tls_port }, 1, 3, #words + 1, words)
   end,
}

-- Dovecot ------------------------------------------------------------------------------

-- Its best setting, as measured: login processes that serve many clients
-- (performance mode), mail processes that serve many at once or, for big messages,
-- one after the other (`dovecot_clients`), sizes by the files' names, no fsync, and no lock
-- file a session: how much the system takes for one depends on what was deleted of late.
local DOVECOT = [[
%smail_fsync = never
pop3_fast_size_lookups = yes
maildir_very_dirty_syncs = yes
mail_max_userip_connections = 0
auth_worker_max_count = 1
default_client_limit = 30000
default_process_limit = 30000
service pop3-login {
  service_count = 0
  process_min_avail = 1
  process_limit = 1
  inet_listener pop3s {
    port = %d
  }
}
service pop3 {
  service_count = 0
  client_limit = %d
  process_min_avail = 1
}
]]

local function dovecot_settings(site)
   local tls = site.cert and ("ssl = yes\nssl_cert = <%s\nssl_key = <%s\n"):format(site.cert, site.key) or ""
   return DOVECOT:format(tls, site.tls_port or site.cert and site.port or 0, site.dovecot_clients)
end

servers.dovecot = {
   missing = dovecot_config.missing,
   command = function(site)
      local port = site.cert and not site.tls_port and 0 or site.port
      return { dovecot_config.path, "-F", "-c",
         dovecot_config.write(site.dir, site.mail, port, dovecot_settings(site)) }
   end,
}

-- tcllib -------------------------------------------------------------------------------

servers.tcllib = {
   files = true,
   -- It has no UIDL, and rewrites messages (its mime package): their ends are checked alone.
   load = { "--without", "UIDL", "--ends-only" },
   missing = function()
      local there = process.has("tclsh") and os.execute("echo 'package require pop3d' | tclsh >/dev/null 2>&1")
      return not there and "not installed" or nil
   end,
   command = function(site)
      return { "tclsh", site.bin .. "/pop3d.tcl", site.files, site.port, site.users }
   end,
}

-- Starting and ending -------------------------------------------------------------------

local function wait_for(port, log)
   local deadline = socket.gettime() + 20
   while true do
      local client = socket.connect("127.0.0.1", port)
      if client then
         return client:close()
      end
      if socket.gettime() > deadline then
         error("a server does not start:\n" .. files.text(log))
      end
      socket.sleep(0.05)
   end
end

servers.quoted = process.command_line

local Server = {}
Server.__index = Server

--- Starts one and waits until it listens.
-- @string name
-- @tparam table site
-- @treturn table with name, port, mail, tls_port where the site has `both`, `cpu()`, `memory()`, `stop()`
function servers.start(name, site)
   local self = setmetatable({ name = name, port = process.free_port(), load = servers[name].load or {} }, Server)
   self.mail = site.mail
   self.tls_port = site.both and process.free_port() or nil
   local own = { port = self.port, tls_port = self.tls_port, dir = site.root .. "/" .. name }
   site = setmetatable(own, { __index = site })
   files.run("mkdir -p %s", site.dir)
   self.group = measure.new_group(("%s-%d"):format(name, self.port))
   local words = { servers.program("serve"), "--core", 0 }
   if AS_ROOT then
      table.move({ "--user", USER }, 1, 2, #words + 1, words)
   end
   if self.group then
      table.move({ "--cgroup", self.group }, 1, 2, #words + 1, words)
   end
   words[#words + 1] = "--"
   table.move(servers[name].command(site), 1, 20, #words + 1, words)
   files.run("touch %s", site.dir .. "/log")
   servers.hand_over(site.dir)
   local log = site.dir .. "/out"
   self.pipe = assert(io.popen(("echo $$ >%s.pid; exec %s >%s 2>&1"):format(log, servers.quoted(words), log), "w"))
   wait_for(self.port, log)
   self.pid = math.tointeger(tonumber(files.text(log .. ".pid"):match("%d+")))
   return self
end

--- Gives mail to whom it is served as.
function servers.hand_over(dir)
   if AS_ROOT then
      files.run("chown -R %s %s", USER .. ":" .. GROUP, dir)
   end
end

function Server:cpu()
   return measure.cpu(self.pid, self.group)
end

function Server:memory()
   return measure.memory(self.pid, self.group)
end

function Server:stop()
   self.pipe:close() -- serve ends all, and then itself
   if self.group then
      measure.remove_group(self.group)
   end
end

return servers
