local fetching = require("support.fetching")
local files = require("support.files")
local logins = require("support.logins")
local process = require("support.process")

-- It puts a Return-Path line of its own first, and takes the message's away.
local function without_own(octets)
   return (octets:gsub("^Return%-Path: [^\n]*\n", "", 1))
end

-- It breaks a line that is too long behind the field's name.
local function unfolded(header)
   return (header:gsub("^([%w-]+:) ?\n ", "%1 "))
end

-- It puts a blank behind the name of an empty field.
local function blanks_added(header)
   return (header:gsub("(\n[%w-]+:)\n", "%1 \n"))
end

-- It ends a header that no body follows with a blank line.
local function expected(octets)
   local text = without_own(fetching.lf(octets))
   local header, body = text:match("^(.-\n)(\n.*)$")
   return unfolded(blanks_added(header or text)) .. (body or "\n")
end

local function undo(octets)
   return unfolded(without_own(octets))
end

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
   expected = expected,
   undo = undo,
   -- It misses the end of a child that was quicker than its own wait for it.
   race = "waiting child pid %d+ timed out",
   exceptions = {
      ["a lone dot first"] = "6.18.11 puts an empty line in front of a body that no header precedes",
      ["a From_ line first"] = "6.18.11 drops such a line",
      ["nothing at all"] = "6.18.11 makes it an empty header, which is an empty line",
      ["bare CRs"] = "6.18.11 makes each CR a line end",
   },
}

local function login_config(job)
   local tls = job.transport == "tls"
   local retriever = tls and "SimplePOP3SSLRetriever\nca_certs = " .. job.ca or "SimplePOP3Retriever"
   return ([[
[retriever]
type = %s
server = localhost
port = %d
username = joe
password = %s
use_apop = %s
use_xoauth2 = %s

[destination]
type = MDA_external
path = %s
allow_root_commands = true

[options]
read_all = true
delete = false
delivered_to = false
received = false
verbose = 0
]]):format(retriever, job.port, job.password, job.mechanism == "apop",
      job.mechanism == "XOAUTH2", fetching.mda(job.home))
end

logins.describe {
   name = "getmail6",
   version = "getmail --version",
   installed = function()
      return process.has("getmail")
   end,
   fetch = function(job)
      local rc = files.put(job.home .. "/getmailrc", login_config(job))
      files.run("chmod 600 %s", rc)
      return process.run({ "getmail", "--getmaildir", job.home, "--rcfile", rc }, job)
   end,
   expected = expected,
   undo = undo,
   logins = {
      { "user", over = "plain tls" },
      { "apop", over = "plain tls" },
   },
   cannot = {
      { "XOAUTH2", over = "plain tls", instead = "user %s entered",
         why = "6.18.11 has `use_xoauth2` for IMAP only" },
   },
}
