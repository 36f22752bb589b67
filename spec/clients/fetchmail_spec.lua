local fetching = require("support.fetching")
local files = require("support.files")
local process = require("support.process")

fetching.describe {
   name = "fetchmail",
   version = "fetchmail --version",
   version_pattern = "release ([%w.]+)",
   installed = function()
      return process.has("fetchmail")
   end,
   -- invisible: no Received line of its own; no rewrite: addresses stay.
   fetch = function(job)
      local rc = files.put(job.home .. "/fetchmailrc", ([[
set no syslog
set no bouncemail
set idfile "%s/ids"
poll 127.0.0.1 proto POP3 port %d auth password no dns
   user joe password secret
   nokeep fetchall no rewrite pass8bits sslproto ""
   mda "%s"
]]):format(job.home, job.port, fetching.mda(job.home)))
      files.run("chmod 600 %s", rc)
      return process.run({
         "fetchmail", "-f", rc, "--pidfile", job.home .. "/pid", "--invisible", "--silent", "--nodetach", "-d", "0",
      }, job)
   end,
   expected = fetching.lf,
   exceptions = {},
}
