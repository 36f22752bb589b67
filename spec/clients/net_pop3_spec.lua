local fetching = require("support.fetching")
local process = require("support.process")

fetching.describe {
   name = "Perl's Net::POP3",
   version = "perl -MNet::POP3 -e 'print $Net::POP3::VERSION'",
   installed = function()
      return (process.run { "perl", "-MNet::POP3", "-e", "1" })
   end,
   fetch = function(job)
      return process.run { "perl", fetching.helper("net_pop3_fetch.pl"), job.port, job.home .. "/out" }
   end,
   expected = fetching.lf,
   exceptions = {},
}
