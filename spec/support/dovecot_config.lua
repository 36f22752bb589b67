--- What specs and the bench tell any Dovecot: loopback, one password, mail as
-- Maildirs.  Settings that follow go before these.
local files = require("spec.support.files")

local dovecot_config = {}

local CONFIG = [[
protocols = pop3
listen = 127.0.0.1
base_dir = $dir/run
state_dir = $dir/state
log_path = $dir/log
ssl = no
disable_plaintext_auth = no
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
first_valid_uid = 1
mail_location = maildir:$mail/%u
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=$user gid=$group home=$mail/%u
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
    port = $port
  }
  inet_listener pop3s {
    port = 0
  }
}
]]

-- Debian puts it where users' PATH may not lead.
local path = files.first_line("PATH=$PATH:/usr/sbin:/usr/local/sbin command -v dovecot")

--- Where it is, or nil.
dovecot_config.path = path

--- Why there can be none here, or nil.
function dovecot_config.missing()
   if not path then
      return "dovecot is not installed (make peers)"
   end
   local version = files.first_line(files.quote(path) .. " --version") or "unknown"
   return not version:find("^2%.3") and "Dovecot is " .. version .. ", its configuration here is of 2.3" or nil
end

--- Who serves the mail: Dovecot never does so as root.
-- @treturn string user
-- @treturn string group
function dovecot_config.serves_as()
   local name = files.first_line("id -un")
   name = name == "root" and "nobody" or name
   return name, files.first_line("id -gn " .. files.quote(name))
end

--- Writes a configuration, and makes the directories that it names.
-- @string dir of its own
-- @string mail where the Maildirs are, by user name
-- @int port 0: none without TLS
-- @string settings further ones, which are stronger
-- @treturn string the file's path
function dovecot_config.write(dir, mail, port, settings)
   local user, group = dovecot_config.serves_as()
   local values = { dir = dir, mail = mail, port = port, user = user, group = group }
   files.run("mkdir -p %s %s", dir .. "/run", dir .. "/state")
   return files.put(dir .. "/dovecot.conf", CONFIG:gsub("%$(%l+)", values) .. settings)
end

return dovecot_config
