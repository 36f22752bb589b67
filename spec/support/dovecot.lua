--- A Dovecot of the spec's own: loopback, one password, mail as Maildirs below a
-- directory.
local dovecot_config = require("spec.support.dovecot_config")
local files = require("spec.support.files")
local process = require("spec.support.process")
local program = require("spec.support.program")

local dovecot = {}

--- Why there can be none here, or nil.
function dovecot.missing()
   local missing = dovecot_config.missing()
   if missing then
      return missing
   end
   return not os.execute(("test -x %s/pop3"):format(dovecot.libexec())) and "Dovecot has no POP3 (make peers)" or nil
end

function dovecot.libexec()
   return "/usr/lib/dovecot"
end

local Dovecot = {}
Dovecot.__index = Dovecot

--- Gives what is in a directory to whom the mail is served as.
function dovecot.hand_over(mail)
   local user, group = dovecot_config.serves_as()
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
   local addresses, blocks = { "127.0.0.1" }, {}
   for n, set in ipairs(sets or {}) do
      addresses[n + 1] = dovecot.address(n)
      blocks[n] = ("local %s {\n%s}\n"):format(dovecot.address(n), lines_of(set))
   end
   dovecot.hand_over(mail)
   local self = setmetatable({ port = process.free_port() }, Dovecot)
   local all = lines_of { listen = table.concat(addresses, ", "), log_path = "/dev/stderr" } .. lines_of(settings)
   local config = dovecot_config.write(dir, mail, self.port, all .. table.concat(blocks))
   self.process = program.start({ dovecot_config.path }, "-F", "-c", config)
   self.process:wait_for("starting up")
   return self
end

-- Ends it because of a reply that should not have come, with its log.
local function give_up(self, reply)
   local said = self.process.said
   self:stop()
   error(("%s\n%s"):format(reply, table.concat(said, "\n")), 0)
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
