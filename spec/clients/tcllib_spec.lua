local fetching = require("support.fetching")
local process = require("support.process")

-- Numbers of the messages of a kind.
local function numbers(messages, kind)
   local list = {}
   for _, message in ipairs(messages) do
      if message.kind == kind then
         list[#list + 1] = message.number
      end
   end
   return list
end

fetching.describe {
   name = "tcllib's pop3",
   version = "echo 'puts [package require pop3]' | tclsh",
   installed = function()
      return (process.run { "sh", "-c", "echo 'package require pop3' | tclsh 2>&1 | { ! grep -q .; }" })
   end,
   -- Its fast mode takes the lone dot of an empty message for the message and
   -- waits for another one for ever; its slow mode does not.
   fetch = function(job)
      return process.run {
         "tclsh", fetching.helper("tcllib_fetch.tcl"), job.port, job.home .. "/out",
         table.unpack(numbers(job.messages, "nothing at all")),
      }
   end,
   expected = fetching.lf,
   exceptions = {
      ["the first octet a dot"] = "1.10 takes the stuffed dot off from the second line on only",
      ["a lone dot first"] = "1.10 takes the stuffed dot off from the second line on only",
      ["bare CRs"] = "1.10 makes each CR a line end",
   },
}
