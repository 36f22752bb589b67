--- What the logins of every client have in common: servers on this machine, one
-- case for each mechanism and transport, and what the server saw of it.
--
--     logins.describe {
--        name = "mpop", version = "mpop --version", installed = …,
--        fetch = function(job) … end, expected = fetching.lf,
--        logins = { { "user" }, { "apop" }, { "EXTERNAL", over = "stls tls", site = "cert" } },
--        cannot = { { "XOAUTH2", over = "plain", why = "needs TLS", says = "TLS" } },
--     }
local assert = require("luassert")
local busted = require("busted")
local certificates = require("support.certificates")
local corpus = require("support.corpus")
local fetching = require("support.fetching")
local files = require("support.files")
local process = require("support.process")
local wire = require("support.wire")

local logins = {}

local MESSAGES = 3
local DOCS = "docs/clients.md"
local TRANSPORTS = { "plain", "stls", "tls" }
local TITLES = { plain = "plain", stls = "STLS", tls = "TLS" }
local SERVERS = 11 -- those of logins_server.lua

-- The servers ------------------------------------------------------------------

local world = {}

local function wait_ports()
   local ports = {}
   for _ = 1, SERVERS do
      local port, server = world.server:wait_for("(port=%d+ server=%S+)"):match("(%d+) server=(%S+)")
      ports[server] = math.tointeger(tonumber(port))
   end
   return ports
end

local function start()
   world.dir, world.messages = files.new_dir(), corpus.small(MESSAGES)
   for n, message in ipairs(world.messages) do
      files.put(("%s/%d"):format(world.dir, n), message.stored)
   end
   certificates.site(world.dir)
   local words = files.as_oneself()
   table.move({ fetching.helper("logins_server.lua"), world.dir, MESSAGES }, 1, 3, #words + 1, words)
   world.server = process.start(words)
   world.ports = wait_ports()
end

local function finish()
   if world.server then
      world.server:stop()
   end
   files.remove(world.dir)
   world = {}
end

--- The port of a site ("all", "bare" without APOP and AUTH, "cert" that asks for
-- a client's certificate, "hasty" that soon closes who does not log in, "unbound"
-- without channel bindings) for a transport.
function logins.port(site, transport)
   return world.ports[("%s-%s"):format(site, transport == "tls" and "tls" or "stls")]
end

--- The file of a certificate or key that was made, such as "ca.pem".
function logins.file(name)
   return world.dir .. "/" .. name
end

--- What follows the status line of RETR for a message.
function logins.message(n)
   return (corpus.stuffed(world.messages[n].wire))
end

--- Has busted start the servers before, and end them after, the specs of a block.
function logins.serve()
   busted.lazy_setup(start)
   busted.lazy_teardown(finish)
end

--- What the servers saw since they were last asked, by clients that have all
-- gone: lines.
function logins.seen()
   wire.talk(world.ports.control, "XQUIET\r\nQUIT\r\n")
   local path, lines = world.dir .. "/logins", {}
   if files.exists(path) then
      for line in io.lines(path) do
         lines[#lines + 1] = line
      end
      assert(os.remove(path))
   end
   return lines
end

-- One case ---------------------------------------------------------------------

local function new_job(login, transport, more)
   local job = {
      home = files.new_dir(),
      count = MESSAGES,
      transport = transport,
      port = logins.port(login.site or "all", transport),
      login = login,
      mechanism = login[1],
      password = "secret",
      ca = logins.file("ca.pem"),
      cert = login.site == "cert" and logins.file("joe.pem"),
      key = login.site == "cert" and logins.file("joe.key"),
   }
   for key, value in pairs(more or {}) do
      job[key] = value
   end
   files.run("mkdir %s/out", job.home)
   return job
end

local function handed_over(job)
   local pipe, texts = assert(io.popen("find " .. files.quote(job.home .. "/out") .. " -type f")), {}
   for path in pipe:lines() do
      texts[#texts + 1] = files.text(path)
   end
   pipe:close()
   table.sort(texts)
   return texts
end

-- Runs the client.  Returns whether it ended well, what it said, the messages
-- that it handed over, sorted, and what the servers saw.
local function run(client, login, transport, more)
   local job = new_job(login, transport, more)
   if login.tell then
      files.put(logins.file("sasl"), login.tell)
   end
   local ok, said = client.fetch(job)
   os.remove(logins.file("sasl"))
   local texts = handed_over(job)
   files.remove(job.home)
   return ok, said, texts, logins.seen()
end

local function all_messages(client)
   local texts = {}
   for n, message in ipairs(world.messages) do
      texts[n] = client.expected(message.wire)
   end
   table.sort(texts)
   return texts
end

local function undone(client, texts)
   local list = {}
   for n, text in ipairs(texts) do
      list[n] = client.undo and client.undo(text) or text
   end
   table.sort(list)
   return list
end

-- A login, then each message under that login; a client may log in repeatedly.
local function assert_entered(lines, mechanism, transport)
   local way, entered, fetched = ("%s %s "):format(mechanism, transport), 0, {}
   for _, line in ipairs(lines) do
      assert.equal(way, line:sub(1, #way), table.concat(lines, "\n"))
      local what = line:sub(#way + 1)
      entered = entered + (what == "entered" and 1 or 0)
      fetched[math.tointeger(tonumber(what)) or 0] = true
   end
   assert.is_true(entered > 0, "no login was seen")
   for n = 1, MESSAGES do
      assert.is_true(fetched[n], ("message %d was not fetched"):format(n))
   end
end

local function assert_logs_in(client, login, transport)
   local ok, said, texts, lines = run(client, login, transport)
   assert.is_true(ok, said .. table.concat(lines, "\n"))
   assert_entered(lines, login[1], transport)
   assert.same(all_messages(client), undone(client, texts))
end

local function assert_refused(client, login, transport)
   local wrong = { password = "wrong", cert = login.site == "cert" and logins.file("eve.pem"),
      key = login.site == "cert" and logins.file("eve.key"),
      port = login.hangs and logins.port("hasty", transport) or nil }
   local ok, said, texts, lines = run(client, login, transport, wrong)
   local way, refused = ("%s %s refused: password"):format(login[1], transport), false
   for _, line in ipairs(lines) do
      assert.matches(" refused: password$", line)
      refused = refused or line == way
   end
   assert.is_true(refused, ("the server did not see '%s' but '%s'; the client said %s"):format(
      way, table.concat(lines, ", "), said))
   assert.same({}, texts)
   assert.is_true(client.keeps_quiet or not ok, "the client says that all went well: " .. said)
end

-- It gives up before any name or password is sent.
local function assert_distrusts(client, login, transport)
   local ok, said, texts, lines = run(client, login, transport, { ca = logins.file("stranger.pem"), distrusts = true })
   assert.same({}, lines)
   assert.same({}, texts)
   assert.is_true(client.keeps_quiet or not ok, "the client says that all went well: " .. said)
end

-- What this version cannot do a later one may; then it has to do it right.
local function assert_cannot(client, login, transport)
   local _, said, texts, lines = run(client, login, transport)
   if #texts > 0 and lines[1] == ("%s %s entered"):format(login[1], transport) then
      assert_entered(lines, login[1], transport)
      return
   end
   assert.is_nil((table.concat(lines, "\n"):find(login[1] .. " " .. transport .. " entered", 1, true)))
   if login.says then
      assert.matches(login.says, said)
   end
   if login.instead then
      assert.equal(login.instead:format(transport), lines[1])
   end
end

-- All cases of a client ----------------------------------------------------------

local function goes_over(login, transport)
   return (" " .. (login.over or "plain stls tls") .. " "):find(" " .. transport .. " ", 1, true) ~= nil
end

local function each_case(list, f)
   for _, login in ipairs(list or {}) do
      for _, transport in ipairs(TRANSPORTS) do
         if goes_over(login, transport) then
            f(login, transport)
         end
      end
   end
end

local function title(login)
   return login.note and ("%s, %s,"):format(login[1], login.note) or login[1]
end

local function over_titles(login)
   return ((login.over or "plain stls tls"):gsub("%a+", TITLES):gsub(" ", ", "))
end

-- Each mechanism once, with what is noted of it.
local function add_way(ways, login)
   local mechanism, note = login[1], login.note
   local way = ways[mechanism]
   if not way then
      way = { name = mechanism, always = not note, notes = {} }
      ways[mechanism] = way
      ways[#ways + 1] = way
   end
   way.notes[#way.notes + 1] = note
end

local function list_of(ways)
   local list = {}
   for n, way in ipairs(ways) do
      local notes = table.concat(way.notes, "; ")
      list[n] = way.name .. (notes == "" and "" or (" (%s%s)"):format(way.always and "also " or "", notes))
   end
   return #list > 0 and table.concat(list, ", ") or "–"
end

-- The lines of docs/clients.md that these cases stand behind.
local function documented(client)
   local lines, by = {}, { plain = {}, stls = {}, tls = {} }
   each_case(client.logins, function(login, transport)
      add_way(by[transport], login)
   end)
   for _, transport in ipairs(TRANSPORTS) do
      lines[#lines + 1] = ("| %s | %s | %s |"):format(client.name, TITLES[transport], list_of(by[transport]))
   end
   for _, login in ipairs(client.cannot or {}) do
      lines[#lines + 1] = ("| %s | %s | %s | %s |"):format(client.name, login[1], over_titles(login), login.why)
   end
   for _, login in ipairs(client.logins) do
      if login.hangs then
         lines[#lines + 1] = ("| %s | %s with a wrong secret | %s | %s |"):format(
            client.name, login[1], over_titles(login), login.hangs)
      end
   end
   return lines
end

local function add_distrust(client, version)
   local done = {}
   each_case(client.logins, function(login, transport)
      if transport ~= "plain" and not done[transport] then
         done[transport] = true
         busted.it(("%s tells nothing to a server that it does not trust, over %s"):format(
            version, TITLES[transport]), function()
            assert_distrusts(client, login, transport)
         end)
      end
   end)
end

local function add_cases(client, version)
   each_case(client.logins, function(login, transport)
      local over = TITLES[transport]
      busted.it(("%s logs in by %s over %s and fetches"):format(version, title(login), over), function()
         assert_logs_in(client, login, transport)
      end)
      busted.it(("%s is refused by %s over %s with a wrong secret"):format(version, title(login), over), function()
         assert_refused(client, login, transport)
      end)
   end)
   add_distrust(client, version)
   each_case(client.cannot, function(login, transport)
      busted.it(("%s does not log in by %s over %s: %s"):format(
         version, login[1], TITLES[transport], login.why), function()
         assert_cannot(client, login, transport)
      end)
   end)
end

--- Makes the specs of one client.
-- @tparam table client
-- `name`, `version`, `version_pattern`, `installed`, `expected(octets)` and
-- `undo(octets)`: as fetching.describe has them;
-- `fetch(job)`: has it fetch all `job.count` messages from `job.port` of
-- localhost, as joe with `job.password` by `job.mechanism` over `job.transport`
-- (`"plain"`, `"stls"`, `"tls"`), trusting `job.ca` alone (which is wrong if `job.distrusts`), with the certificate
-- `job.cert` and `job.key` if there is one, each message into a file in
-- `job.home`/out; returns whether that went well, and what the client said;
-- `logins`: what it can do: the name as the server tells it, `over`: transports,
-- by default all, `site`: which server, `tell`: the one mechanism that CAPA
-- tells, `note`, `hangs`: why it does not end by itself after a wrong secret, and
-- what `fetch` needs besides; `later`: it is not the version of docs/clients.md;
-- `cannot`: the same, with `why`, `says`: a pattern of what it says, `instead`:
-- what the server sees first (%s is the transport);
-- `keeps_quiet`: its status says nothing
function logins.describe(client)
   busted.describe(client.name .. " logging in", function()
      if not client.installed() then
         busted.pending(client.name .. " is not installed")
         return
      end
      logins.serve()
      add_cases(client, fetching.version_of(client))

      if client.later then
         return
      end
      busted.it("is told of in " .. DOCS .. ", line by line", function()
         local text = files.text(DOCS)
         for _, line in ipairs(documented(client)) do
            assert.is_truthy(text:find(line, 1, true), "missing: " .. line)
         end
      end)
   end)
end

return logins
