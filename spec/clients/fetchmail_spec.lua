local fetching = require("support.fetching")
local files = require("support.files")
local logins = require("support.logins")
local process = require("support.process")

local LONG = "6.4.37 breaks lines above 8 192 octets"

-- It ends a header that no body follows with a blank line.
local function expected(octets)
   local text = fetching.lf(octets)
   return text:find("\n\n", 1, true) and text or text .. "\n"
end

fetching.describe {
   name = "fetchmail",
   version = "fetchmail --version",
   version_pattern = "release ([%w.]+)",
   installed = function()
      return process.has("fetchmail")
   end,
   -- invisible: no Received line of its own; no rewrite: addresses stay;
   -- bad-header accept: a first line that is no field does not matter.
   fetch = function(job)
      local rc = files.put(job.home .. "/fetchmailrc", ([[
set no syslog
set no bouncemail
set idfile "%s/ids"
poll 127.0.0.1 proto POP3 port %d auth password no dns bad-header accept
   user joe password secret
   nokeep fetchall no rewrite pass8bits sslproto ""
   mda "%s"
]]):format(job.home, job.port, fetching.mda(job.home)))
      files.run("chmod 600 %s", rc)
      return process.run({
         "fetchmail", "-f", rc, "--pidfile", job.home .. "/pid", "--invisible", "--silent", "--nodetach", "-d", "0",
      }, job)
   end,
   expected = expected,
   exceptions = {
      ["lines of 10 000 octets"] = LONG,
      ["lines of 10 000 octets, CRLF"] = LONG,
      ["a line of 10 000 octets, open"] = LONG,
      ["a line of 10 000 dots"] = LONG,
      ["a From_ line first"] = "6.4.37 drops such a line",
      ["nothing at all"] = "6.4.37 delivers a notice of its own for a message without a header",
      ["bare CRs"] = "6.4.37 drops a CR in front of a line end, and makes others line ends",
   },
}

local SSL = {
   plain = 'sslproto ""',
   stls = 'sslproto "TLS1.2+" sslcertck sslcertfile "%s"',
   tls = 'ssl sslcertck sslcertfile "%s"',
}

local function login_config(job)
   local certificate = job.cert and (' sslcert "%s" sslkey "%s"'):format(job.cert, job.key) or ""
   return ([[
set no syslog
set no bouncemail
set idfile "%s/ids"
poll localhost proto %s port %d auth %s no dns bad-header accept
   user joe password %s
   keep fetchall no rewrite pass8bits %s
   mda "%s"
]]):format(job.home, job.login.proto or "POP3", job.port, job.login.auth or "password", job.password,
      SSL[job.transport]:format(job.ca) .. certificate, fetching.mda(job.home))
end

logins.describe {
   name = "fetchmail",
   version = "fetchmail --version",
   version_pattern = "release ([%w.]+)",
   installed = function()
      return process.has("fetchmail")
   end,
   fetch = function(job)
      local rc = files.put(job.home .. "/fetchmailrc", login_config(job))
      files.run("chmod 600 %s", rc)
      return process.run({
         "fetchmail", "-f", rc, "--pidfile", job.home .. "/pid", "--invisible", "--nodetach", "-d", "0",
      }, job)
   end,
   expected = expected,
   logins = {
      { "user" },
      { "apop", proto = "APOP", over = "plain tls" },
      { "CRAM-MD5", auth = "cram-md5" },
      { "CRAM-MD5", auth = "any", note = "its own choice" },
   },
   cannot = {
      { "apop", proto = "APOP", over = "stls", instead = "apop plain entered",
         why = "with `proto APOP` 6.4.37 never asks for STLS, whatever `sslproto` says: it logs in unencrypted" },
      { "EXTERNAL", auth = "external", over = "stls tls", site = "cert",
         why = "6.4.37 has it for IMAP only", says = "run out of allowed authenticators" },
   },
}
