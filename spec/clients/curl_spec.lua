local fetching = require("support.fetching")
local files = require("support.files")
local logins = require("support.logins")
local process = require("support.process")

-- One connection: every message, then every DELE, which has no message behind
-- its reply (head), then QUIT.
local function config(job)
   local lines = {}
   local function transfer(...)
      for _, line in ipairs { "silent", "show-error", "fail", 'user = "joe:secret"', ... } do
         lines[#lines + 1] = line
      end
      lines[#lines + 1] = "next"
   end
   for n = 1, job.count do
      local url = ('url = "pop3://127.0.0.1:%d/%d"'):format(job.port, n)
      transfer(url, ('output = "%s/out/%d"'):format(job.home, n))
      transfer(url, 'request = "DELE"', "head", 'output = "/dev/null"')
   end
   lines[#lines] = nil -- the last "next"
   return table.concat(lines, "\n") .. "\n"
end

fetching.describe {
   name = "curl",
   version = "curl --version",
   installed = function()
      return process.has("curl")
   end,
   fetch = function(job)
      return process.run({ "curl", "--config", files.put(job.home .. "/config", config(job)) }, job)
   end,
   expected = function(octets)
      return octets
   end,
   exceptions = {
      ["nothing at all"] = "7.88.1 makes an empty message one empty line",
   },
}

local TOKEN = { OAUTHBEARER = true, XOAUTH2 = true }

-- What a login adds to the configuration.
local function identity(job)
   local lines = { ('cacert = "%s"'):format(job.ca) }
   local function add(...)
      lines[#lines + 1] = (...):format(select(2, ...))
   end
   add('user = "joe:%s"', (job.cert or TOKEN[job.mechanism]) and "" or job.password)
   if TOKEN[job.mechanism] then
      add('oauth2-bearer = "%s"', job.password)
   end
   if job.cert then
      add('cert = "%s"', job.cert)
      add('key = "%s"', job.key)
   end
   if job.login.choose then
      add('login-options = "AUTH=%s"', job.login.choose)
   end
   if job.transport == "stls" then
      add("ssl-reqd")
   end
   if job.login.initial then
      add("sasl-ir")
   end
   return table.concat(lines, "\n")
end

local function login_config(job)
   local transfers, scheme = {}, job.transport == "tls" and "pop3s" or "pop3"
   for n = 1, job.count do
      transfers[n] = ('silent\nshow-error\nfail\n%s\nurl = "%s://localhost:%d/%d"\noutput = "%s/out/%d"\n'):format(
         identity(job), scheme, job.port, n, job.home, n)
   end
   return table.concat(transfers, "next\n")
end

local NO_GSASL = "Debian builds it without GNU SASL"

logins.describe {
   name = "curl",
   version = "curl --version",
   installed = function()
      return process.has("curl")
   end,
   fetch = function(job)
      return process.run({ "curl", "--config", files.put(job.home .. "/config", login_config(job)) }, job)
   end,
   expected = function(octets)
      return octets
   end,
   logins = {
      { "user", site = "bare" },
      { "apop", choose = "+APOP" },
      { "PLAIN", choose = "PLAIN" },
      { "PLAIN", choose = "PLAIN", initial = true, note = "with --sasl-ir" },
      { "LOGIN", choose = "LOGIN" },
      { "LOGIN", choose = "LOGIN", initial = true, note = "with --sasl-ir" },
      { "CRAM-MD5", choose = "CRAM-MD5" },
      { "CRAM-MD5", note = "its own choice" },
      { "OAUTHBEARER", choose = "OAUTHBEARER" },
      { "OAUTHBEARER", choose = "OAUTHBEARER", initial = true, note = "with --sasl-ir" },
      { "XOAUTH2", tell = "XOAUTH2", note = "where OAUTHBEARER is not told" },
      { "XOAUTH2", tell = "XOAUTH2", initial = true, note = "where OAUTHBEARER is not told, with --sasl-ir" },
      { "EXTERNAL", choose = "EXTERNAL", site = "cert", over = "stls tls" },
      { "EXTERNAL", choose = "EXTERNAL", site = "cert", over = "stls tls", initial = true, note = "with --sasl-ir" },
   },
   cannot = {
      { "SCRAM-SHA-1", choose = "SCRAM-SHA-1", why = NO_GSASL, says = "curl: %(67%)" },
      { "SCRAM-SHA-256", choose = "SCRAM-SHA-256", why = NO_GSASL, says = "curl: %(67%)" },
   },
}
