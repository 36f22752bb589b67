-- popd.maildir behind a server: what clients read, and what popd.check says.
local client = require("support.client")
local files = require("support.files")
local maildir = require("popd.maildir")
local popd = require("popd")

describe("popd.maildir, served,", function()
   local root

   before_each(function()
      root = files.new_dir()
      files.run("mkdir -p %s %s %s", root .. "/joe/new", root .. "/joe/cur", root .. "/joe/tmp")
   end)

   after_each(function()
      client.finish()
      files.remove(root)
   end)

   local function path(name)
      return root .. "/joe/" .. name
   end

   local function serve(options, change)
      options.root = root .. "/%s"
      local storage = maildir.new(options)
      if change then
         change(storage)
      end
      return client.server { auth = { lookup = function(name) return "{PLAIN}secret", name end }, storage = storage }
   end

   local function fill()
      files.put(path("new/1.a"), "a\n")
      files.put(path("cur/2.b,S=4,W=6:2,S"), "a\nb\n")
      files.put(path("new/3.c d"), "abc")
      files.put(path("new/4.e"), "one")
      files.put(path("cur/4.e:2,S"), "other")
   end

   -- Two clients of joe's: one that is logged in, one that has to tell its password.
   local function two(options, change)
      fill()
      local server = serve(options, change)
      local first, second = client.login(server), client.connect(server)
      second:command("USER joe")
      return first, second
   end

   it("waits for the lock as long as it is told to", function()
      local tries = 0
      local first, second = two({ wait = 9 }, function(storage)
         local lock = storage.lock
         storage.lock = function(...)
            tries = tries + 1
            return lock(...)
         end
      end)
      second:send("PASS secret\r\n")
      client.wait_for("the second login to wait", function() return tries == 2 end)
      assert.equal("+OK", first:command("QUIT"):sub(1, 3))
      assert.equal("+OK", second:line():sub(1, 3))
   end)

   it("ends an idle session for its user's next one, with take_over", function()
      local first, second = two { take_over = 0 }
      first:command("DELE 1")
      assert.equal("+OK", second:command("PASS secret"):sub(1, 3))
      assert.matches("takes over", (select(2, first:closed())))
      assert.equal(1, #client.logged("an idle session ends.* idle=0 "))
      assert.equal("+OK 5 ", second:command("STAT"):sub(1, 6))
   end)

   it("leaves a session alone that is not idle for long enough", function()
      local first, second = two { take_over = 3600 }
      assert.matches("^%-ERR %[IN%-USE%]", second:command("PASS secret"))
      assert.equal("+OK 5 ", first:command("STAT"):sub(1, 6))
   end)

   it("has its own words in the log where a script shows more messages than there are", function()
      fill()
      local c = client.login(serve({}, function(storage)
         local scan = storage.scan
         storage.stat = function() return 6 end
         storage.scan = function(mbox)
            local sizes, uids = scan(mbox)
            sizes[6], uids[6] = 5, "more"
            return sizes, uids
         end
      end))
      assert.matches("^%-ERR %[SYS/TEMP%]", c:command("RETR 6"))
      assert.equal(1, #client.logged("callback=storage%.get .*no message 6"))
      assert.same("a\r\n", (c:fetch("RETR 1")))
   end)

   it("tells through a list what its tables tell", function()
      fill()
      local listed, inner = serve({}), nil
      local c = client.login(listed, "joe", "secret")
      local _, sizes = c:command("LIST")
      local _, uids = c:command("UIDL")
      local stat = c:command("STAT")
      c:command("QUIT")
      local tabled = serve({}, function(storage)
         inner = storage.scan
         storage.scan = function(mbox, conn)
            return inner(mbox, conn)
         end
      end)
      c = client.login(tabled, "joe", "secret")
      assert.same(sizes, (select(2, c:command("LIST"))))
      assert.same(uids, (select(2, c:command("UIDL"))))
      assert.equal(stat, c:command("STAT"))
      assert.equal("+OK 1 1.a", c:command("UIDL 1"))
      assert.equal("+OK 2 6", c:command("LIST 2"))
      assert.equal("1 1.a", uids[1])
      assert.equal("2 2.b,S=4,W=6", uids[2])
      assert.equal("3 " .. popd.fs.sha256("3.c d"), uids[3])
   end)

   it("keeps its unique-ids to the session's end, whatever becomes of the list", function()
      fill()
      local c = client.login(serve({}), "joe", "secret")
      collectgarbage()
      files.run("rm -f %s/*", path("new"))
      assert.is_nil(c:command("RETR 1"):match("^%+OK"))
      collectgarbage()
      local _, uids = c:command("UIDL")
      assert.equal("1 1.a", uids[1])
      assert.equal("2 2.b,S=4,W=6", uids[2])
   end)

   -- What becomes of a file whose size was told, and the first line of what its reader gets.
   for _, case in ipairs {
      { "longer", "printf more >> %s", "^%-ERR %[SYS/TEMP%]" },
      { "shorter", "printf a > %s", "^%-ERR %[SYS/TEMP%]" },
      { "empty", ": > %s", "^%-ERR %[SYS/TEMP%]" },
      { "a directory", "f=%s; rm $f; mkdir $f", "^%-ERR" },
      { "a pipe", "f=%s; rm $f; mkfifo $f", "^%-ERR" },
      { "a link", "f=%s; cp $f ../f; rm $f; ln -s ../f $f", "^%-ERR" },
      { "gone", "rm %s", "^%-ERR" },
      { "moved", "f=%s; mv $f ${f}F", "^%+OK 6 " },
      { "written anew, as long as it was", "printf 'a\nb\n' > %s", "^%+OK 6 " },
   } do
      for _, before in ipairs { "", "STAT\r\n" } do
         local name = before == "" and case[1] or case[1] .. ", behind a STAT"
         it("tells who fetches a message that is meanwhile " .. name,
            function()
               fill()
               local c = client.login(serve({}))
               assert.equal("+OK 2 6", c:command("LIST 2"))
               files.run("cd %s && " .. case[2], root, "joe/cur/2.b,S=4,W=6:2,S")
               c:send(before .. "RETR 2\r\n")
               if before ~= "" then
                  assert.matches("^%+OK 5 ", c:line())
               end
               local line = c:line()
               assert.matches(case[3], line)
               if line:find("^%+OK") then
                  assert.equal("a\r\nb\r\n", (c:body()))
               end
               assert.same("a\r\n", (c:fetch("RETR 1")))
            end)
      end
   end

   it("sends a message without any octets, again and again", function()
      files.put(path("new/1.a,S=0"), "")
      files.put(path("new/2.b"), "")
      local c = client.login(serve({}))
      for _, command in ipairs { "RETR 1", "RETR 2", "TOP 2 1", "RETR 1" } do
         local body, line = c:fetch(command)
         assert.matches("^%+OK", line)
         assert.equal("", body)
      end
   end)

   -- How many of a Maildir's directories this process has open.
   local function held()
      local pipe <close> = assert(io.popen("ls -l /proc/$PPID/fd"))
      local _, n = pipe:read("a"):gsub("%-> " .. root:gsub("%p", "%%%0") .. "/%w+/%l+\n", "")
      return n
   end

   it("holds the directory open for a client that fetches, until it rests or leaves", function()
      fill()
      local server = serve({})
      local c = client.login(server)
      assert.equal(0, held())
      assert.same("a\r\n", (c:fetch("RETR 1")))
      assert.same("a\r\nb\r\n", (c:fetch("RETR 2")))
      assert.equal(2, held())
      client.wait_for("nobody to have a directory open", function() return held() == 0 end)
      assert.same("a\r\n", (c:fetch("RETR 1")))
      assert.equal(1, held())
      c:command("QUIT")
      assert.equal(0, held())
   end)

   it("fetches for more clients than it holds directories for", function()
      local server, clients = serve({}), {}
      server:configure { max_per_address = 200 }
      for i = 1, 100 do
         files.run("cd %s && mkdir -p " .. ("u%d/new u%d/cur u%d/tmp"):gsub("%%d", i), root)
         files.put(("%s/u%d/new/1.a"):format(root, i), ("for %d\n"):format(i))
         clients[i] = client.login(server, "u" .. i)
      end
      for _ = 1, 2 do
         for i, c in ipairs(clients) do
            assert.same(("for %d\r\n"):format(i), (c:fetch("RETR 1")))
         end
      end
      assert.equal(64 / 2, held()) -- a place each for new and cur
   end)

   it("has nothing of an earlier Maildir of the same name", function()
      local server = serve({})
      for _, text in ipairs { "one\n", "two\n", "six\n" } do
         files.run("cd %s && rm -rf old && mv joe old && mkdir -p joe/new joe/cur joe/tmp", root)
         files.put(path("new/1.a,S=4"), text)
         local c = client.login(server)
         assert.same(text:gsub("\n", "\r\n"), (c:fetch("RETR 1")))
         c:command("QUIT")
      end
   end)

   it("asks get, where a script has put its own in its place or a metatable behind the storage", function()
      local asked = 0
      local function own(storage)
         local get = storage.get
         return function(...)
            asked = asked + 1
            return get(...)
         end
      end
      fill()
      assert.equal("a\r\n", (client.login(serve({}, function(storage) storage.get = own(storage) end)):fetch("RETR 1")))
      assert.equal(1, asked)
      client.finish()
      local c = client.login(serve({}, function(storage)
         local get = own(storage)
         storage.get = nil
         setmetatable(storage, { __index = { get = get } })
      end))
      assert.equal("a\r\n", (c:fetch("RETR 1")))
      assert.equal(2, asked)
   end)

   it("goes by what the storage's table has at each command", function()
      local storage, get, asked = nil, nil, {}
      fill()
      local c = client.login(serve({}, function(made)
         storage, get = made, made.get
      end))
      local function own(mbox, id, ...)
         asked[#asked + 1] = type(...) == "number" and "top" or "get"
         return get(mbox, id)
      end
      for _, case in ipairs {
         { "RETR 1", {}, "" }, { "RETR 1", { get = own }, "get" }, { "TOP 1 1", { get = own }, "get" },
         { "RETR 1", {}, "" }, { "TOP 1 1", {}, "" }, { "RETR 1", { top = own }, "" },
         { "TOP 1 1", { top = own }, "top" }, { "TOP 1 1", {}, "" }, { "RETR 1", { get = own, top = own }, "get" },
      } do
         asked, storage.get, storage.top = {}, case[2].get or get, case[2].top
         assert.equal("a\r\n", (c:fetch(case[1])))
         assert.equal(case[3], table.concat(asked, " "))
      end
      setmetatable(storage, {})
      assert.equal("a\r\n", (c:fetch("RETR 1")))
   end)

   it("runs nothing of a script's without a task, whatever a metatable hides", function()
      fill()
      local calls, apart = 0, 0
      local server = serve({}, function(storage)
         local get = storage.get
         storage.get = nil
         setmetatable(storage, { __metatable = false, __index = function(_, name)
            calls = calls + 1
            apart = apart + (coroutine.isyieldable() and 0 or 1)
            return name == "get" and get or nil
         end })
      end)
      local c = client.login(server)
      calls, apart = 0, 0
      assert.equal("a\r\n", (c:fetch("RETR 1")))
      assert.equal(0, apart)
      assert.is_true(calls > 0)
   end)

   it("marks, unmarks and deletes what a list told", function()
      fill()
      local server = serve({})
      local c = client.login(server, "joe", "secret")
      assert.matches("^%+OK", c:command("DELE 2"))
      assert.same(4, #select(2, c:command("UIDL")))
      assert.matches("^%+OK", c:command("RSET"))
      assert.same(5, #select(2, c:command("UIDL")))
      assert.matches("^%+OK", c:command("DELE 2"))
      assert.matches("^%+OK", c:command("QUIT"))
      c = client.login(server, "joe", "secret")
      assert.same(4, #select(2, c:command("UIDL")))
   end)

   it("lets another in while it reads and writes", function()
      fill()
      local server = serve({ dele = ".Trash" })
      files.run("mkdir -p %s", root .. "/ann/new")
      for _ = 1, 20 do
         local c, other = client.login(server, "joe", "secret"), client.login(server, "ann", "secret")
         assert.matches("^%+OK", other:command("STAT"))
         assert.matches("^%+OK", c:command("STAT"))
         c:command("QUIT")
         other:command("QUIT")
      end
   end)

   for name, options in pairs {
      ["unlinking"] = {}, ["flagging"] = { dele = "flag" }, ["moving to a folder"] = { dele = ".Trash" },
      ["showing the newest"] = { newest = 1000 }, ["showing the last days"] = { days = 30 },
      ["in order of files' times"] = { order = "mtime" },
   } do
      it("passes popd.check, " .. name, function()
         options.root = root .. "/%s"
         local n = 0
         local ok, report = popd.check(maildir.new(options), { mbox = "joe", destructive = true, put = function(_, text)
            n = n + 1
            local file = ("%d.M%dP1.host"):format(os.time(), n)
            files.put(path("tmp/" .. file), text)
            files.run("mv %s %s", path("tmp/" .. file), path("new/" .. file))
         end })
         assert.is_true(ok, tostring(report))
      end)
   end
end)
