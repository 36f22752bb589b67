local fetching = require("support.fetching")
local files = require("support.files")
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
