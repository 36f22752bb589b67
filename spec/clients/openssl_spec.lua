-- openssl s_client: what of TLS is served to a client that leaves the protocol to
-- whoever types, and what may not get through.
local logins = require("support.logins")
local process = require("support.process")
local socket = require("socket")
local ssl = require("ssl")

local SAFETY = 60
-- In capitals some letters at a line's start are commands to s_client itself.
local SESSION = "user joe\r\npass %s\r\nretr 1\r\nretr 2\r\nretr 3\r\nquit\r\n"
local TRANSPORTS = { stls = "-starttls pop3", tls = "implicit TLS" }

-- Runs s_client on an input, with more words.  Returns whether it ended well,
-- and what it said.
local function s_client(transport, input, ca, ...)
   local words = {
      "sh", "-c", 'input=$1; shift; printf "$input" | openssl s_client "$@"', "sh", input,
      "-quiet", "-verify_return_error", "-CAfile", logins.file(ca), "-verify_hostname", "localhost",
      "-connect", "127.0.0.1:" .. logins.port("all", transport), ...,
   }
   if transport == "stls" then
      table.move({ "-starttls", "pop3" }, 1, 2, #words + 1, words)
   end
   return process.run(words)
end

local function lines_of(transport)
   return { ("user %s entered"):format(transport), ("user %s 1"):format(transport), ("user %s 2"):format(transport),
      ("user %s 3"):format(transport) }
end

-- One line each, however often a message was opened.
local function without_repeats(lines)
   local list, known = {}, {}
   for _, line in ipairs(lines) do
      list[#list + 1] = not known[line] and line or nil
      known[line] = true
   end
   return list
end

local function cases(transport)
   it("logs in and fetches", function()
      local ok, said = s_client(transport, SESSION:format("secret"), "ca.pem")
      assert.is_true(ok, said)
      assert.same(lines_of(transport), without_repeats(logins.seen()))
      for n = 1, 3 do
         assert.is_truthy(said:find(logins.message(n), 1, true), said)
      end
   end)

   it("is refused with a wrong password", function()
      local _, said = s_client(transport, SESSION:format("wrong"), "ca.pem")
      assert.matches("%-ERR %[AUTH%]", said)
      assert.same({ ("user %s refused: password"):format(transport) }, logins.seen())
   end)

   it("ends without a word where it does not trust the server", function()
      local ok, said = s_client(transport, SESSION:format("secret"), "stranger.pem")
      assert.is_false(ok)
      assert.matches("verify", said)
      assert.same({}, logins.seen())
   end)

   for _, version in ipairs { "-tls1", "-tls1_1" } do
      it("cannot come with " .. version, function()
         local ok, said = s_client(transport, SESSION:format("secret"), "ca.pem", version, "-cipher", "ALL:@SECLEVEL=0")
         assert.is_false(ok)
         assert.matches("alert protocol version", said)
         assert.same({}, logins.seen())
      end)
   end

   it("comes with -tls1_2", function()
      local ok, said = s_client(transport, SESSION:format("secret"), "ca.pem", "-tls1_2")
      assert.is_true(ok, said)
      assert.same(lines_of(transport), without_repeats(logins.seen()))
   end)
end

for transport, title in pairs(TRANSPORTS) do
   describe("openssl s_client with " .. title, function()
      logins.serve()
      cases(transport)
   end)
end

-- Behind the reply to STLS on a socket: a handshake, then what is sent.
-- Returns all that comes back.
local function behind_stls(sock, octets)
   local how = { mode = "client", protocol = "any", cafile = logins.file("ca.pem"), verify = "peer" }
   local tls = assert(ssl.wrap(sock, how))
   tls:settimeout(SAFETY)
   assert(tls:dohandshake())
   assert(tls:send(octets))
   local answer, _, part = tls:receive("*a")
   tls:close()
   return answer or part
end

describe("what somebody puts behind STLS, unencrypted", function()
   logins.serve()

   local injections = {
      { "a login", "USER joe\r\nPASS secret\r\nRETR 1\r\n" },
      { "a name alone", "USER joe\r\n" },
      { "half a command", "USER jo" },
      { "QUIT", "QUIT\r\n" },
   }
   for _, case in ipairs(injections) do
      it("is never run: " .. case[1], function()
         local sock = assert(socket.connect("127.0.0.1", logins.port("all", "stls")))
         sock:settimeout(SAFETY)
         assert.matches("^%+OK", sock:receive())
         assert(sock:send("STLS\r\n" .. case[2]))
         assert.matches("^%+OK", sock:receive())
         local answer = behind_stls(sock, "PASS secret\r\nQUIT\r\n")
         assert.matches("^%-ERR [^\r]*\r\n%+OK [^\r]*\r\n$", answer)
         assert.same({}, logins.seen())
      end)
   end
end)
