local fetching = require("support.fetching")
local files = require("support.files")
local logins = require("support.logins")
local process = require("support.process")

-- It asks for nothing and stores in a Maildir of its own.
local SETTINGS = [[
set folder="%s"
set spoolfile="%s/in"
set mbox_type=maildir
set pop_delete=no
set pop_last=no
set pop_reconnect=no
set sleep_time=0
set copy=no
set quit=yes
set confirmappend=no
set confirmcreate=no
set ssl_starttls=%s
set ssl_force_tls=%s
set certificate_file="%s"
set pop_host="%s://localhost:%d"
set pop_user=joe
set pop_pass="%s"
]]

local TOKEN = { OAUTHBEARER = true, XOAUTH2 = true }

local function config(job)
   local tls = job.transport ~= "plain"
   local lines = SETTINGS:format(job.home, job.home, tls and "yes" or "no", tls and "yes" or "no", job.ca,
      job.transport == "tls" and "pops" or "pop", job.port, job.password)
   if not job.login.own then
      lines = lines .. ('set pop_authenticators="%s"\n'):format(job.mechanism:lower())
   end
   if TOKEN[job.mechanism] then
      lines = lines .. ('set pop_oauth_refresh_command="echo %s"\n'):format(job.password)
   end
   if job.cert then
      lines = lines .. ('set ssl_client_cert="%s"\n'):format(job.cert)
   end
   return lines .. 'push "<fetch-mail><quit>"\n'
end

local function installed()
   return process.has("neomutt") and process.has("script")
end

-- It wants a terminal, which script(1) is to it.
local function fetch(job)
   files.run("mkdir -p %s/in/new %s/in/cur %s/in/tmp", job.home, job.home, job.home)
   local rc = files.put(job.home .. "/rc", config(job))
   local command = "TERM=xterm neomutt -n -F " .. files.quote(rc)
   local ok, said = process.run({ "script", "-qec", command, job.home .. "/typescript" }, job)
   files.run("find %s/in -type f -exec mv -t %s/out {} +", job.home, job.home)
   return ok, said
end

logins.describe {
   name = "neomutt",
   version = "neomutt -v",
   version_pattern = "NeoMutt (%d+)",
   installed = installed,
   fetch = fetch,
   expected = fetching.lf,
   keeps_quiet = true,
   logins = {
      { "user" },
      { "apop" },
      { "PLAIN" },
      { "LOGIN" },
      { "CRAM-MD5" },
      { "SCRAM-SHA-1" },
      { "SCRAM-SHA-256" },
      { "OAUTHBEARER" },
      { "XOAUTH2" },
      { "SCRAM-SHA-256", own = true, note = "its own choice" },
   },
}
