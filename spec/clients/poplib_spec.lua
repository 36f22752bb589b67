local fetching = require("support.fetching")
local logins = require("support.logins")
local process = require("support.process")

fetching.describe {
   name = "Python's poplib",
   version = "python3 --version",
   installed = function()
      return process.has("python3")
   end,
   fetch = function(job)
      return process.run { "python3", fetching.helper("poplib_fetch.py"), job.port, job.home .. "/out" }
   end,
   -- It hands over lines; the helper ends each with CRLF.
   expected = function(octets)
      return octets
   end,
   exceptions = {},
}

logins.describe {
   name = "Python's poplib",
   version = "python3 --version",
   installed = function()
      return process.has("python3")
   end,
   fetch = function(job)
      return process.run {
         "python3", fetching.helper("poplib_login.py"), job.transport, job.port, job.mechanism, job.password, job.ca,
         job.home .. "/out",
      }
   end,
   expected = function(octets)
      return octets
   end,
   logins = {
      { "user" },
      { "apop" },
   },
}
