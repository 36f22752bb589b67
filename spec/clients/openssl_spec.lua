-- openssl s_client: what of TLS is served to a client that leaves the protocol to
-- whoever types, and what may not get through.
local assert = require("luassert")
local busted = require("busted")
local files = require("support.files")
local logins = require("support.logins")
local process = require("support.process")
local wire = require("support.wire")

local SESSION = "USER joe\r\nPASS %s\r\nRETR 1\r\nQUIT\r\n"

-- Runs s_client over a transport, with more words.  Returns whether it ended
-- well, and what it said.
local function s_client(transport, input, ...)
   local words = { "openssl", "s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-CAfile", logins.file("ca.pem"),
      "-verify_hostname", "localhost", "-connect", "127.0.0.1:" .. logins.port("all", transport), ... }
   if transport == "stls" then
      table.move({ "-starttls", "pop3" }, 1, 2, #words + 1, words)
   end
   local quoted = {}
   for n, word in ipairs(words) do
      quoted[n] = files.quote(word)
   end
   return process.run { "sh", "-c", 'printf "$1" | ' .. table.concat(quoted, " "), "sh", input }
end

for _, transport in ipairs { "stls", "tls" } do
   local over = transport == "stls" and "-starttls pop3" or "implicit TLS"

   describe("openssl s_client with " .. over, function()
      if not process.has("openssl") then
         pending("openssl is not installed")
         return
      end
      logins.serve()
   end)
end
