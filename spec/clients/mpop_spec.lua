local fetching = require("support.fetching")
local files = require("support.files")
local process = require("support.process")

fetching.describe {
   name = "mpop",
   version = "mpop --version",
   installed = function()
      return process.has("mpop")
   end,
   fetch = function(job)
      local rc = files.put(job.home .. "/mpoprc", ([[
account default
host 127.0.0.1
port %d
user joe
password secret
auth user
tls off
keep off
received_header off
uidls_file %s/uidls
delivery mda %s
]]):format(job.port, job.home, fetching.mda(job.home)))
      files.run("chmod 600 %s", rc)
      return process.run({ "mpop", "-q", "-C", rc }, job)
   end,
   expected = fetching.lf,
   exceptions = {},
}
