-- Postfix and Exim hand mail to `popd-lua deliver`, by the lines that the guide has.
local files = require("spec.support.files")
local mta = require("spec.support.mta")
local program = require("spec.support.program")

local has_driver = pcall(require, "luasql.sqlite3")

-- What a program on the way might spoil.
local MESSAGE = table.concat({
   "From: Ann <ann@example.org>", "To: joe@example.org", "Subject: \195\164 and \228",
   "Date: Tue, 14 Nov 2023 12:00:00 +0000", "Message-ID: <1@example.org>", "X-Folded: one", "\ttwo",
   "MIME-Version: 1.0", "Content-Type: text/plain; charset=iso-8859-1", "Content-Transfer-Encoding: 8bit", "",
   "From the start", ">From here", "", "From there", ".", "..", ".x", "\228\246\252\255\128", "trailing  ", "\ttab\t",
   ("long "):rep(180), "the end", "", "",
}, "\r\n") .. "\r\n"

local maildir_script = [[
   local popd, maildir = require "popd", require "popd.maildir"
   popd.new({
      port = 0, address = "127.0.0.1",
      auth = { lookup = function(name) return "{PLAIN}secret", name end },
      storage = maildir.new { root = %q },
   }):up()
]]

local sqlite_script = [[
   local popd, store = require "popd", require "popd.sqlite".new { file = %q, secrets = "plain" }
   popd.new({ port = 0, address = "127.0.0.1", auth = store, storage = store }):up()
]]

for _, name in ipairs { "postfix", "exim" } do
   describe("popd-lua deliver, called by " .. name, function()
      local dir, running, server

      before_each(function()
         dir = files.new_dir()
      end)

      after_each(function()
         for _, process in ipairs { running or false, server or false } do
            if process then
               process:stop()
            end
         end
         running, server = nil, nil
         files.remove(dir)
      end)

      local function needs(f)
         return function()
            local why = mta.missing(name)
            if why then
               return pending(why)
            end
            f()
         end
      end

      local function start(store)
         running = mta.start[name](dir, store, { "joe", "ann", "who" })
      end

      -- Mail as a client sees it.
      local function fetch(script, user)
         server = program.start(program.popd_lua(), "-e", script)
         local c = program.connect(server:port())
         local reply = c:login(user, "secret")
         assert.truthy(reply:find("^%+OK"), reply)
         local texts = {}
         for n = 1, tonumber(c:say("STAT"):match("%d+")) do
            texts[n] = c:fetch(n)
         end
         c:say("QUIT")
         c:close()
         server:stop()
         server = nil
         return texts
      end

      -- A message behind the lines that trace its way.
      local function traced(text)
         local before, rest = text:match("^(.-\r\n)(From: Ann.*)$")
         assert.matches("^Return%-[Pp]ath: <ann@example.org>\r\n", before)
         assert.matches("\r\n%u[%w-]+%-[Tt]o: joe@example.org\r\n", before)
         assert.matches("\r\nReceived: ", before)
         return rest
      end

      local function fetch_maildir()
         return fetch(maildir_script:format(dir .. "/mail/%d/%n"), "joe@example.org")
      end

      it("puts a message into a Maildir, octet for octet", needs(function()
         start("maildir:" .. dir .. "/mail/%d/%n")
         running:send("ann@example.org", "joe@example.org", MESSAGE)
         assert.equal("sent", running:outcome())
         assert.equal(MESSAGE, traced(fetch_maildir()[1]))
      end))

      it("has its mail wait while the Maildirs' disk is not mounted, and takes it at the next try", needs(function()
         start("maildir:" .. dir .. "/mail/%d/%n")
         files.run("mv %s %s", dir .. "/mail", dir .. "/unmounted")
         running:send("ann@example.org", "joe@example.org", MESSAGE)
         assert.equal("deferred", running:outcome())
         assert.equal(1, running:waiting())
         assert.is_false(files.exists(dir .. "/mail"))
         files.run("mv %s %s", dir .. "/unmounted", dir .. "/mail")
         running:retry()
         assert.equal("sent", running:outcome())
         local texts = fetch_maildir()
         assert.equal(1, #texts)
         assert.equal(MESSAGE, traced(texts[1]))
      end))

      it("puts a message into an SQLite file, and has one bounce whose user is not there", needs(function()
         if not has_driver then
            return pending("LuaSQL's sqlite3 driver is not installed")
         end
         local file = dir .. "/mail/mail.db"
         files.run("mkdir %s", dir .. "/mail")
         local store = require("popd.sqlite").new { file = file, threads = 1 }
         assert(store.add("joe@example.org", "{PLAIN}secret"))
         assert(store.add("ann@example.org", "{PLAIN}secret"))
         start("sqlite:" .. file)
         running:send("ann@example.org", "joe@example.org", MESSAGE)
         assert.equal("sent", running:outcome())
         running:send("ann@example.org", "who@example.org", MESSAGE)
         assert.equal("bounced", running:outcome())
         assert.equal("sent", running:outcome())
         local texts = fetch(sqlite_script:format(file), "joe@example.org")
         assert.equal(1, #texts)
         assert.equal(MESSAGE, traced(texts[1]))
         local bounce = fetch(sqlite_script:format(file), "ann@example.org")
         assert.equal(1, #bounce)
         assert.matches("^Return%-[Pp]ath: <>\r\n", bounce[1])
         assert.matches("there%s+is%s+no%s+user%s+'who@example.org'", bounce[1])
      end))
   end)
end
