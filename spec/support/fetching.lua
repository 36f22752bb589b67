--- What every client's spec does: serves the whole corpus, lets the client fetch
-- and delete it, and compares each message with what the server had to send.
--
--     fetching.describe {
--        name = "curl", package = "curl", version = "curl --version",
--        fetch = function(job) … end,
--        …
--     }
local assert = require("luassert")
local busted = require("busted")
local corpus = require("support.corpus")
local files = require("support.files")
local process = require("support.process")
local wire = require("support.wire")

local fetching = {}

local SUPPORT = "spec/support/"

--- The line ends that most clients hand over.
function fetching.lf(octets)
   return (octets:gsub("\r\n", "\n"))
end

--- The absolute path of a helper beside this file.
function fetching.helper(name)
   return files.absolute(SUPPORT .. name)
end

--- Writes a program that stores each message that it is given on its standard
-- input: out/1, out/2, …  Returns its path.
function fetching.mda(home)
   local path = files.put(home .. "/mda", ([[
#!/bin/sh
cd %s || exit 75
n=$(($(cat count) + 1))
cat >out/$n || exit 75
echo $n >count
]]):format(files.quote(home)))
   files.put(home .. "/count", "0\n")
   files.run("chmod 700 %s", path)
   return path
end

--- The version that a client tells of itself.
function fetching.version_of(client)
   local _, text = process.run { "sh", "-c", client.version }
   return text:match(client.version_pattern or "%d+%.[%w.]+") or "of an unknown version"
end

local function raw_commands(messages)
   local commands = { "USER joe\r\nPASS secret\r\nSTAT\r\nLIST\r\n" }
   for _, message in ipairs(messages) do
      commands[#commands + 1] = ("RETR %d\r\n"):format(message.number)
   end
   return table.concat(commands) .. "QUIT\r\n"
end

--- Fetches all by a raw socket.  Returns what was not sent as it had to be:
-- lines of text, none if all is right.
function fetching.raw_faults(port, messages)
   local replies, faults = wire.replies(wire.talk(port, raw_commands(messages))), {}
   local total, list = 0, { "" }
   for _ = 1, 3 do
      assert.matches("^%+OK", replies:line())
   end
   local stat = replies:line()
   assert.matches("^%+OK", replies:line())
   local listed = replies:multi()
   for i, message in ipairs(messages) do
      assert.matches("^%+OK", replies:line())
      local octets = replies:multi()
      if octets ~= corpus.stuffed(message.wire) then
         faults[#faults + 1] = ("message %d (%s) was sent wrong"):format(i, message.kind)
      end
      total = total + #message.wire
      list[#list + 1] = ("%d %d\r\n"):format(i, #message.wire)
   end
   if not stat:find(("^%%+OK %d %d[ \r]"):format(#messages, total)) then
      faults[#faults + 1] = ("STAT says %q, %d octets were sent"):format(stat, total)
   end
   if listed ~= table.concat(list) .. ".\r\n" then
      faults[#faults + 1] = "LIST says " .. listed
   end
   return faults
end

local function difference(got, expected)
   if not got then
      return "not there"
   end
   local at = 1
   while at <= math.min(#got, #expected) and got:byte(at) == expected:byte(at) do
      at = at + 1
   end
   return ("octet %d of %d (%d): %q, expected %q"):format(
      at, #got, #expected, got:sub(at, at + 50), expected:sub(at, at + 50))
end

local function handed_over(job, number)
   local ok, text = pcall(files.text, ("%s/out/%d"):format(job.home, number))
   return ok and text or nil
end

-- The messages that were not handed over right, though no exception names them.
local function client_faults(client, job)
   local faults = {}
   for _, message in ipairs(job.messages) do
      local got = handed_over(job, message.number)
      local expected = client.expected(message.wire)
      got = got and client.undo and client.undo(got) or got
      if got ~= expected and not client.exceptions[message.kind] then
         faults[#faults + 1] = ("message %d (%s): %s"):format(message.number, message.kind, difference(got, expected))
      end
   end
   return faults
end

-- Fills in the job step by step, so that what was started can be ended.
local function start(client, job)
   job.root, job.home, job.messages = files.new_dir(), files.new_dir(), corpus.messages()
   job.count = #job.messages
   job.maildir = job.root .. "/joe"
   corpus.write(job.maildir, job.messages)
   files.run("mkdir %s/out", job.home)
   job.server = process.serve_maildir(job.root)
   job.port = job.server.port
   job.raw = fetching.raw_faults(job.port, job.messages)
   job.ok, job.said = client.fetch(job)
   local _, left = corpus.left(job.maildir)
   job.left = left
end

local function finish(job)
   if job.server then
      job.server:stop()
   end
   files.remove(job.root)
   files.remove(job.home)
end

--- Makes the specs of one client.
-- @tparam table client
-- `name`; `version`: a shell command that tells it;
-- `installed`: a function, whether it is there;
-- `fetch(job)`: has it fetch and delete everything from `job.port`, as joe with
-- the password secret, message n into `job.home`/out/n; returns whether that
-- went well, and what the client said;
-- `expected(octets)`: what the client has to hand over for these;
-- `undo(octets)`, optional: takes off what it adds by itself;
-- `exceptions`: what it spoils, by kind of message: why;
-- `race`, optional: what it says where it stumbled over itself: then all begins
-- anew, twice at most
function fetching.describe(client)
   busted.describe(client.name, function()
      if not client.installed() then
         busted.pending(client.name .. " is not installed")
         return
      end
      local version = fetching.version_of(client)
      local job = {}

      busted.lazy_setup(function()
         start(client, job)
         for _ = 1, 2 do
            if job.ok or not (client.race and job.said:find(client.race)) then
               return
            end
            finish(job)
            start(client, job)
         end
      end)

      busted.lazy_teardown(function()
         finish(job)
      end)

      busted.it(version .. " ends well", function()
         assert.is_true(job.ok, job.said)
      end)

      busted.it(version .. " hands over every message with every byte right", function()
         assert.same({}, client_faults(client, job))
      end)

      for kind, why in pairs(client.exceptions) do
         busted.it(("%s is the one that spoils '%s': %s"):format(version, kind, why), function()
            for _, fault in ipairs(job.raw) do
               assert.is_nil(fault:find(kind, 1, true), fault)
            end
         end)
      end

      busted.it("was sent the right bytes, as a raw socket shows, and STAT and LIST told their number", function()
         assert.same({}, job.raw)
      end)

      busted.it(version .. " leaves an empty Maildir", function()
         assert.equal(0, job.left)
      end)
   end)
end

return fetching
