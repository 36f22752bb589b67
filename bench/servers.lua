--- The servers that the bench compares: how each is configured, started, ended.
--
-- All run on the same core, as the same user, on 127.0.0.1, over the same mail.
-- @module bench.servers
local files = require("support.files")
local measure = require("bench.measure")
local process = require("support.process")
local socket = require("socket")

local servers = {}

local BUILD = os.getenv("POPD_BUILD") or "build"

--- Who they serve as: root would not do for Dovecot.
local AS_ROOT = measure.lines_of("id -u")[1] == "0"
local USER = AS_ROOT and "nobody" or measure.lines_of("id -un")[1]
local GROUP = measure.lines_of("id -gn " .. USER)[1]

function servers.program(name)
   return BUILD .. "/bench/" .. name
end

--- Copies what the servers run to where any user may read it.
-- @string dir
function servers.install(dir)
   files.run("mkdir -p %s", dir)
   for _, file in ipairs { servers.program("limit"), process.program(), "bench/site.lua", "bench/pop3d.tcl" } do
      files.run("cp %s %s", file, dir)
   end
   files.run("chmod -R a+rX %s", dir)
end

-- Each server: `missing()` says why it is not there, `command(site)` starts it. A
-- site has dir (its own), bin (the programs), mail, files (as tcllib has them), port,
-- load (the workload), repeats, users, cert, key. `load` are words for the generator.

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

servers.convert = {
   missing = never,
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
      return table.move({ site.cert, site.key }, 1, 2, #words + 1, words)
   end,
}

-- Dovecot ------------------------------------------------------------------------------

-- Its best setting, as measured: login processes that serve many clients
-- (performance mode), mail processes that serve many at once or, for big messages,
-- one after the other (`dovecot_clients`), sizes by the files' names, no fsync.
local DOVECOT = [[
base_dir = %(dir)/run
state_dir = %(dir)/state
log_path = %(dir)/log
protocols = pop3
listen = 127.0.0.1
%(tls)
disable_plaintext_auth = no
mail_location = maildir:%(mail)/%%u
mail_fsync = never
pop3_fast_size_lookups = yes
mail_max_userip_connections = 0
auth_worker_max_count = 1
verbose_proctitle = no
first_valid_uid = 1
first_valid_gid = 1
default_internal_user = %(user)
default_internal_group = %(group)
default_login_user = %(user)
default_client_limit = 30000
default_process_limit = 30000
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=%(user) gid=%(group) home=%(mail)/%%u
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
service pop3-login {
  chroot =
  service_count = 0
  process_min_avail = 1
  process_limit = 1
  inet_listener pop3 {
    port = %(plain_port)
  }
  inet_listener pop3s {
    port = %(tls_port)
  }
}
service pop3 {
  service_count = 0
  client_limit = %(clients)
  process_min_avail = 1
}
]]

local function dovecot_config(site)
   local values = {
      dir = site.dir, mail = site.mail, user = USER, group = GROUP,
      tls = site.cert and ("ssl = required\nssl_cert = <%s\nssl_key = <%s"):format(site.cert, site.key) or "ssl = no",
      plain_port = site.cert and 0 or site.port, tls_port = site.cert and site.port or 0,
      clients = site.dovecot_clients,
   }
   return (DOVECOT:gsub("%%%((%l[%l_]*)%)", function(name)
      return tostring(assert(values[name], name))
   end):gsub("%%%%", "%%"))
end

servers.dovecot = {
   missing = function()
      if not os.execute("PATH=$PATH:/usr/sbin command -v dovecot >/dev/null") then
         return "not installed"
      end
      local version = measure.lines_of("PATH=$PATH:/usr/sbin dovecot --version")[1]
      return not version:find("^2%.3") and "version " .. version .. ", its configuration here is of 2.3" or nil
   end,
   command = function(site)
      files.run("mkdir -p %s %s", site.dir .. "/run", site.dir .. "/state")
      files.put(site.dir .. "/dovecot.conf", dovecot_config(site))
      return { "env", "PATH=" .. os.getenv("PATH") .. ":/usr/sbin", "dovecot", "-F", "-c", site.dir .. "/dovecot.conf" }
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

local function free_port()
   local listening = assert(socket.bind("127.0.0.1", 0))
   local _, port = listening:getsockname()
   listening:close()
   return math.tointeger(tonumber(port))
end

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

local function quoted(words)
   local all = {}
   for i, word in ipairs(words) do
      all[i] = files.quote(tostring(word))
   end
   return table.concat(all, " ")
end

servers.quoted = quoted

local Server = {}
Server.__index = Server

--- Starts one and waits until it listens.
-- @string name
-- @tparam table site
-- @treturn table with name, port, `cpu()`, `memory()`, `stop()`
function servers.start(name, site)
   local self = setmetatable({ name = name, port = free_port(), load = servers[name].load or {} }, Server)
   site = setmetatable({ port = self.port, dir = site.root .. "/" .. name }, { __index = site })
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
   self.pipe = assert(io.popen(("echo $$ >%s.pid; exec %s >%s 2>&1"):format(log, quoted(words), log), "w"))
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
