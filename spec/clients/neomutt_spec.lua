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

local ONLY = "where only that is told"
local TOKEN = { OAUTHBEARER = true, XOAUTH2 = true }

local function config(job)
   local tls = job.transport ~= "plain"
   local lines = SETTINGS:format(job.home, job.home, tls and "yes" or "no", tls and "yes" or "no", job.ca,
      job.transport == "tls" and "pops" or "pop", job.port, job.password)
   if job.login.choose then
      lines = lines .. ('set pop_authenticators="%s"\n'):format(job.login.choose)
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

-- It wants a terminal, which script(1) is to it.  It asks there whether to accept
-- a certificate that it does not trust: r rejects it.
local function fetch(job)
   files.run("mkdir -p %s/in/new %s/in/cur %s/in/tmp", job.home, job.home, job.home)
   local rc = files.put(job.home .. "/rc", config(job))
   local command = "TERM=xterm neomutt -n -F " .. files.quote(rc)
   local ok, said = process.run({
      "sh", "-c", 'printf "$1" | script -qec "$2" typescript', "sh", job.distrusts and "r" or "", command,
   }, job)
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
      { "user", choose = "user" },
      { "apop", choose = "apop" },
      { "OAUTHBEARER", choose = "oauthbearer",
         hangs = "20220429 answers the error without a line end, then waits until the server closes" },
      { "PLAIN", tell = "PLAIN", note = ONLY },
      { "LOGIN", tell = "LOGIN", note = ONLY },
      { "CRAM-MD5", tell = "CRAM-MD5", note = ONLY },
      { "SCRAM-SHA-1", tell = "SCRAM-SHA-1", note = ONLY },
      { "SCRAM-SHA-256", tell = "SCRAM-SHA-256", note = ONLY },
      { "SCRAM-SHA-256", over = "plain", note = "its own choice" },
   },
   cannot = {
      { "SCRAM-SHA-256-PLUS", over = "stls tls",
         why = "20220429 chooses it by itself, but has no channel binding: it sends `*`, does not read the answer, and "
            .. "takes each later answer for the one before" },
      { "XOAUTH2", choose = "xoauth2", why = "20220429 has no such authenticator", says = "is not a valid authenticator" },
      { "EXTERNAL", tell = "EXTERNAL", over = "stls tls", site = "cert", instead = "apop %s entered",
         why = "20220429 never chooses it, and goes on with APOP" },
   },
}
