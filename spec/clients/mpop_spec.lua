local fetching = require("support.fetching")
local files = require("support.files")
local logins = require("support.logins")
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

local function login_config(job)
   local lines = {
      "account default", "host localhost", "port " .. job.port, "user joe", "password " .. job.password,
      "auth " .. (job.login.choose or job.mechanism:lower()),
      "tls " .. (job.transport == "plain" and "off" or "on"),
      "tls_starttls " .. (job.transport == "stls" and "on" or "off"),
      "tls_trust_file " .. job.ca,
      "keep on", "received_header off", "uidls_file uidls",
      "delivery mda " .. fetching.mda(job.home),
   }
   if job.cert then
      lines[#lines + 1] = "tls_cert_file " .. job.cert
      lines[#lines + 1] = "tls_key_file " .. job.key
   end
   return table.concat(lines, "\n") .. "\n"
end

-- From 1.4.19 or so on it binds SCRAM to TLS, and cannot do without there:
-- GNU SASL refuses before a word is sent.
local _, version = process.run { "mpop", "--version" }
local binds = tonumber(version:match("version 1%.4%.(%d+)") or 0) >= 19

local NO_BINDING = "1.4.18 knows no mechanism with a channel binding"

local common = {
   { "user" },
   { "apop" },
   { "PLAIN" },
   { "LOGIN" },
   { "CRAM-MD5" },
   { "SCRAM-SHA-1", over = "plain" },
   { "SCRAM-SHA-256", over = "plain" },
   { "OAUTHBEARER" },
   { "XOAUTH2" },
   { "EXTERNAL", over = "stls tls", site = "cert" },
   { "SCRAM-SHA-256", choose = "on", over = "plain", note = "its own choice" },
}

local function add(list, more)
   local all = { table.unpack(list) }
   return table.move(more, 1, #more, #all + 1, all)
end

logins.describe {
   name = "mpop",
   version = "mpop --version",
   installed = function()
      return process.has("mpop")
   end,
   fetch = function(job)
      local rc = files.put(job.home .. "/mpoprc", login_config(job))
      files.run("chmod 600 %s", rc)
      return process.run({ "mpop", "-q", "-C", rc }, job)
   end,
   expected = fetching.lf,
   logins = binds and add(common, {
      { "SCRAM-SHA-1-PLUS", over = "stls tls" },
      { "SCRAM-SHA-256-PLUS", over = "stls tls" },
      { "SCRAM-SHA-256-PLUS", choose = "on", over = "stls tls", note = "its own choice" },
   }) or add(common, {
      { "SCRAM-SHA-1", over = "stls tls" },
      { "SCRAM-SHA-256", over = "stls tls" },
      { "PLAIN", choose = "on", over = "stls tls", note = "its own choice" },
   }),
   cannot = not binds and {
      { "SCRAM-SHA-1-PLUS", over = "stls tls", why = NO_BINDING, says = "invalid argument scram%-sha%-1%-plus" },
      { "SCRAM-SHA-256-PLUS", over = "stls tls", why = NO_BINDING, says = "invalid argument scram%-sha%-256%-plus" },
   } or {},
   later = binds,
}
