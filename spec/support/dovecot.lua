--- A Dovecot of the spec's own: loopback, one password, mail as Maildirs below a
-- directory.
local files = require("spec.support.files")
local program = require("spec.support.program")
local socket = require("socket")

local dovecot = {}

-- Debian puts it where users' PATH may not lead.
local function find()
   local pipe = assert(io.popen("PATH=$PATH:/usr/sbin:/usr/local/sbin command -v dovecot"))
   local path = pipe:read("l")
   pipe:close()
   return path
end

local function first_line(command)
   local pipe = assert(io.popen(command))
   local line = pipe:read("l")
   pipe:close()
   return line or ""
end

local path = find()

--- Why there can be none here, or nil.
function dovecot.missing()
   if not path then
      return "dovecot is not installed (make peers)"
   end
   local version = first_line(files.quote(path) .. " --version")
   if not version:find("^2%.3") then
      return "Dovecot is " .. version .. "; what this compares with, and its configuration, are of 2.3"
   end
   return not os.execute(("test -x %s/pop3"):format(dovecot.libexec())) and "Dovecot has no POP3 (make peers)" or nil
end

function dovecot.libexec()
   return "/usr/lib/dovecot"
end

-- Who serves the mail: Dovecot never does so as root.
local function serves_as()
   local name = first_line("id -un")
   if name ~= "root" then
      return name, first_line("id -gn")
   end
   return "nobody", first_line("id -gn nobody")
end

local CONFIG = [[
protocols = pop3
listen = %s
base_dir = %s/run
state_dir = %s/state
log_path = /dev/stderr
ssl = no
disable_plaintext_auth = no
default_internal_user = %s
default_internal_group = %s
default_login_user = %s
first_valid_uid = 1
mail_uid = %s
mail_gid = %s
mail_location = maildir:%s/%%u
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = home=%s/%%u
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
service pop3-login {
  chroot =
  inet_listener pop3 {
    port = %d
  }
  inet_listener pop3s {
    port = 0
  }
}
]]

local function free_port()
   local server = assert(socket.bind("127.0.0.1", 0))
   local _, port = server:getsockname()
   server:close()
   return math.tointeger(tonumber(port))
end

local Dovecot = {}
Dovecot.__index = Dovecot

--- Gives what is in a directory to whom the mail is served as.
function dovecot.hand_over(mail)
   local user, group = serves_as()
   files.run("chmod 755 %s/.. && chown -R %s %s", mail, user .. ":" .. group, mail)
end

local function lines_of(settings)
   local lines = {}
   for name, value in pairs(settings or {}) do
      lines[#lines + 1] = ("%s = %s\n"):format(name, value)
   end
   return table.concat(lines)
end

--- The address at which the nth set of further settings holds.
function dovecot.address(n)
   return "127.0.0." .. n + 1
end

--- Starts one.
-- @string dir a directory of its own
-- @string mail where the Maildirs are, by user name
-- @tparam table settings further lines of its configuration
-- @tparam[opt] table sets lists of settings that hold at an address each
function dovecot.start(dir, mail, settings, sets)
   local user, group = serves_as()
   local addresses, blocks = { "127.0.0.1" }, {}
   for n, set in ipairs(sets or {}) do
      addresses[n + 1] = dovecot.address(n)
      blocks[n] = ("local %s {\n%s}\n"):format(dovecot.address(n), lines_of(set))
   end
   dovecot.hand_over(mail)
   files.run("mkdir -p %s %s", dir .. "/run", dir .. "/state")
   local self = setmetatable({ port = free_port() }, Dovecot)
   local all = table.concat(addresses, ", ")
   local config = CONFIG:format(all, dir, dir, user, group, user, user, group, mail, mail, self.port)
      .. lines_of(settings) .. table.concat(blocks)
   self.process = program.start({ path }, "-F", "-c", files.put(dir .. "/dovecot.conf", config))
   self.process:wait_for("starting up")
   return self
end

-- Ends it because of a reply that should not have come, with its log.
local function give_up(self, reply)
   local process = self.process
   self:stop()
   error(("%s\n%s"):format(reply, table.concat(process.said, "\n")), 0)
end

--- A session of a user, logged in.
function Dovecot:login(user, address)
   local client = program.connect(self.port, address)
   local reply = client:login(user, "secret")
   return reply and reply:find("^%+OK") and client or give_up(self, reply)
end

--- The unique-ids that a session lists.
function Dovecot:listing(client)
   local ok, listing = pcall(client.multi, client, "UIDL")
   return ok and listing or give_up(self, listing)
end

--- Ends it, and waits until it has ended.
function Dovecot:stop()
   if self.process then
      self.process:signal("TERM")
      self.process:ended()
      self.process = nil
   end
end

return dovecot
