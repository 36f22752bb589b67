local fetching = require("support.fetching")
local files = require("support.files")
local process = require("support.process")

fetching.describe {
   name = "getmail6",
   version = "getmail --version",
   installed = function()
      return process.has("getmail")
   end,
   fetch = function(job)
      local rc = files.put(job.home .. "/getmailrc", ([[
[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = %d
username = joe
password = secret

[destination]
type = MDA_external
path = %s
allow_root_commands = true

[options]
read_all = true
delete = true
delivered_to = false
received = false
verbose = 0
]]):format(job.port, fetching.mda(job.home)))
      files.run("chmod 600 %s", rc)
      return process.run({ "getmail", "--getmaildir", job.home, "--rcfile", rc }, job)
   end,
   expected = fetching.lf,
   exceptions = {},
}
