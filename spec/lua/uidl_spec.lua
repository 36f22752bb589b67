local client = require("support.client")
local core = require("popd.core")
local files = require("spec.support.files")
local maildir = require("popd.maildir")
local popd = require("popd")
local store = require("support.store")
local uidl = require("popd.uidl")

local HEADER = "3 V1795740690 N9 G2b1fb90112d4086bbd3f000083ecc375\n"

describe("popd.uidl.format", function()
   local values = {
      uid = 300, uidvalidity = 1795740690, filename = "1700000000.M2P2.Host", guid = "GUID", md5 = "d41d8cd98f00b204",
   }

   -- Those of Dovecot 2.3 are compared with Dovecot itself in spec/peers; here
   -- are also what it allows nobody to compare, and the form of 2.4.
   local cases = {
      { "%08Xu%08Xv", "0000012c6b08d412" },
      { "%v.%u", "1795740690.300" },
      { "%u", "300" },
      { "%f", "1700000000.M2P2.Host" },
      { "%g", "GUID" },
      { "%m", "d41d8cd98f00b204" },
      { "%Mf", "25d2e20d31f85a8a7a6d7eec1c9d1f27" },
      { "x%%%u%%", "x%300%" },
      { "%2u-%f", "30-1700000000.M2P2.Host" },
      { "%{uid | hex(8)}%{uidvalidity | hex(8)}", "0000012c6b08d412" },
      { "%{uid|hex(8)}%{uidvalidity|hex( 8 )}", "0000012c6b08d412" },
      { "%{uid | hex}", "12c" },
      { "%{uid | hex(2)}", "2c" },
      { "%{uid | hex(-5)}", "12c00" },
      { "%{uidvalidity}.%{uid}", "1795740690.300" },
      { "%{ filename | upper }", "1700000000.M2P2.HOST" },
      { "%{filename | lower | reverse}", "tsoh.2p2m.0000000071" },
      { "%{filename | md5 | hexlify}", "25d2e20d31f85a8a7a6d7eec1c9d1f27" },
      { "%{guid}", "GUID" },
      { "%{md5}", "d41d8cd98f00b204" },
   }

   for _, case in ipairs(cases) do
      it("makes of " .. case[1], function()
         local make = assert(uidl.format(case[1]))
         if case[1]:find("md5 |", 1, true) or case[1] == "%Mf" then
            case[2] = core.digest("MD5", values.filename):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
         end
         assert.equal(case[2], make(values))
      end)
   end

   local wrong = {
      { "", "nothing in it tells messages apart" },
      { "constant", "nothing in it tells messages apart" },
      { "%v", "nothing in it tells messages apart" },
      { "%%", "nothing in it tells messages apart" },
      { "%q%u", "'%q' is not known here; there are: %u, %v, %f, %g, %m" },
      { "%u%", "'%' is not known here" },
      { "%08X", "'%' is not known here" },
      { "%{uid", "a '{' without its '}'" },
      { "%{}", "'%{}' is not known here" },
      { "%{user}", "'%{user}' is not known here" },
      { "%{uid | rot13}", "has a filter that is not known here" },
      { "%{uid | hex(x)}", "has a filter that is not known here" },
      { "%{uid | hex(999)}", "has a filter that is not known here" },
      { "%{uid | upper(3)}", "has a filter that is not known here" },
      { "%{uid hex(8)}", "has a filter that is not known here" },
      { "%0999u", "a width above 255" },
      { "%999.5u", "a width above 255" },
      { "%99999999999Hf%u", "a width above 255" },
   }

   for _, case in ipairs(wrong) do
      it(("cannot use %q"):format(case[1]), function()
         local make, why = uidl.format(case[1])
         assert.is_nil(make)
         assert.truthy(why:find(case[2], 1, true), why)
      end)
   end
end)

describe("popd.uidl", function()
   local dir, logged

   before_each(function()
      dir = files.new_dir()
      logged = {}
      popd.log_to(function(level, line)
         logged[#logged + 1] = level .. " " .. line
      end, "debug")
   end)

   after_each(function()
      popd.log_to(nil, "warning")
      files.remove(dir)
   end)

   local function list(text, name)
      return files.put(dir .. "/" .. (name or "dovecot-uidlist"), text)
   end

   local function ids(options, names, message)
      return assert(uidl.new(options):read(dir)):ids(names, message)
   end

   local wrong = {
      { "a style, or a table", 7 },
      { "unknown style 'qmail'; there are: courier, cyrus, dovecot, md5, name, sha1, sha256", "qmail" },
      { "unknown option 'prot'; there are: alarm, file, format", { prot = 1 } },
      { "option 'format' takes a string", { style = "dovecot", format = 1 } },
      { "option 'format': '%q%u'", { style = "dovecot", format = "%q%u" } },
      { "%m is what Dovecot has for mbox only", { style = "dovecot", format = "%m" } },
      { "'format' and 'xuidl' go with", { style = "courier", format = "%u" } },
      { "'format' and 'xuidl' go with", { xuidl = true } },
      { "style 'md5' reads no file", { style = "md5", file = "x" } },
      { "is a share from 0 to less than 1", { alarm = 1 } },
      { "option 'alarm' takes a number", { alarm = true } },
      { "style 'name' reads no file", { file = "x" } },
      { "'refuse' needs the alarm", { alarm = false, refuse = true } },
   }

   for _, case in ipairs(wrong) do
      it("raises at the caller's line: " .. case[1], function()
         for _, make in pairs { uidl.new, function(x) maildir.new { root = dir .. "/%s", uidl = x } end } do
            local ok, err = pcall(make, case[2])
            assert.is_false(ok)
            assert.truthy(err:find(case[1], 1, true), err)
         end
         local ok, err = pcall(function() uidl.new(case[2]) end)
         assert.truthy(not ok and err:find("uidl_spec.lua:", 1, true), err)
         ok, err = pcall(function() maildir.new { root = dir .. "/%s", uidl = case[2] } end)
         assert.truthy(not ok and err:find("uidl_spec.lua:", 1, true), err)
      end)
   end

   it("names messages by their names where there is no list", function()
      for _, style in ipairs { "name", "dovecot", "cyrus", "courier" } do
         assert.same({ "1.a", "2.b" }, ids(style, { "1.a", "2.b" }))
      end
      assert.same({}, logged)
   end)

   it("names messages by their names where the list does not have them", function()
      list(HEADER .. "1 :1.a\n")
      assert.same({ "000000016b08d412", "2.b" }, ids("dovecot", { "1.a", "2.b" }))
      assert.same({ "1795740690.1", "2.b" }, ids("cyrus", { "1.a", "2.b" }))
      list("/3 9 17\n1.a 17 4:17:0\n", "courierpop3dsizelist")
      assert.same({ "UID4-17", "2.b" }, ids("courier", { "1.a", "2.b" }))
   end)

   it("needs no list for a format that is made of the name", function()
      assert.same({ "1.A" }, ids({ style = "dovecot", format = "%Uf" }, { "1.a" }))
      assert.same({ "1.a" }, ids({ style = "dovecot", format = "%v-%f" }, { "1.a" }))
      list(HEADER .. "1 :1.a\n")
      assert.same({ "1.A", "2.B" }, ids({ style = "dovecot", format = "%Uf" }, { "1.a", "2.b" }))
      assert.same({ "1795740690-2.b" }, ids({ style = "dovecot", format = "%v-%f" }, { "2.b" }))
   end)

   -- what a list or a name holds, and whether that can be a unique-id
   local texts = {
      { "a", true }, { "!~", true }, { ("x"):rep(70), true },
      { ("x"):rep(71), false }, { "a b", false }, { "a\127", false }, { "\228", false }, { "a\0", false },
      { "", false },
   }

   for _, case in ipairs(texts) do
      it(("makes of %q what POP3 allows"):format(case[1]), function()
         local id = uidl.fit(case[1])
         assert.equal(case[2], id == case[1])
         assert.truthy(id:find("^[!-~]+$") and #id <= 70)
         assert.equal(id, uidl.fit(case[1]))
      end)
   end

   it("tells unique-ids that POP3 allows, whatever the list says", function()
      list(HEADER .. "1 P" .. ("x"):rep(80) .. " :1.a\n2 P\1\255 :2.b\n3 P :3." .. ("c"):rep(90) .. "\n")
      for _, id in ipairs(ids("dovecot", { "1.a", "2.b", "3." .. ("c"):rep(90), "4 d", "5." .. ("\200"):rep(200) })) do
         assert.truthy(id:find("^%x+$") and #id == 64, id)
      end
   end)

   it("tells the same of a message whatever else is there", function()
      list(HEADER .. "1 Px :1.a\n2 Px :2.b\n3 Px-2 :3.c\n4 :x\n5 Px :5.e\n6 P5.new :6.f\n")
      local names = { "1.a", "2.b", "3.c", "x", "5.e", "6.f", "5.new", "x-3" }
      local all = ids("dovecot", names)
      assert.same({ "x", "x-2", "x-2-2", "000000046b08d412", "x-3", "5.new" }, table.move(all, 1, 6, 1, {}))
      assert.not_equal("5.new", all[7])
      for left = 0, 255 do
         local some, expected = {}, {}
         for i, name in ipairs(names) do
            if left & (1 << (i - 1)) ~= 0 then
               some[#some + 1], expected[#expected + 1] = name, all[i]
            end
         end
         assert.same(expected, ids("dovecot", some))
      end
   end)

   it("gives no two messages the same, even where somebody wants it so", function()
      list(HEADER .. "1 :1.a\n2 :2.b\n")
      local names = { "1.a", "000000016b08d412", "2.b" }
      local seen = {}
      for _, id in ipairs(ids("dovecot", names)) do
         assert.is_nil(seen[id])
         seen[id] = true
      end
      assert.is_true(seen["000000016b08d412"])
      local told = ids({ override = function() return "same" end }, names)
      assert.equal("same", told[1])
      assert.truthy(told[2] ~= told[1] and told[3] ~= told[1] and told[2] ~= told[3])
   end)

   it("lets a function say what single messages have", function()
      list(HEADER .. "1 Pof-the-list :1.a\n2 :2.b\n")
      local asked = {}
      local told = ids({
         style = "dovecot",
         override = function(name, where)
            asked[#asked + 1] = where .. " " .. name
            return ({ ["1.a"] = "mine", ["3.c"] = "not allowed" })[name]
         end,
      }, { "1.a", "2.b", "3.c" })
      assert.same({ "mine", "000000026b08d412" }, { told[1], told[2] })
      assert.truthy(told[3]:find("^%x+$"))
      assert.same({ dir .. " 1.a", dir .. " 2.b", dir .. " 3.c" }, asked)
   end)

   it("makes digests of the content, and counts what is alike", function()
      local texts_of = { "abc", "", "abc", "abc" }
      local function message(i)
         return texts_of[i]
      end
      local names = { "1", "2", "3", "4", "5" }
      assert.same({
         "900150983cd24fb0d6963f7d28e17f72", "d41d8cd98f00b204e9800998ecf8427e",
         "900150983cd24fb0d6963f7d28e17f72-2", "900150983cd24fb0d6963f7d28e17f72-3", "5",
      }, ids("md5", names, message))
      assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", ids("sha1", names, message)[1])
      assert.equal(
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad-3", ids("sha256", names, message)[4])
   end)

   it("believes X-UIDL fields of listed messages only", function()
      list(HEADER .. "1 :1.a\n2 :2.b\n3 Pown :3.c\n4 :4.d\n")
      local messages = {
         "Subject: a\r\nX-UIDL: first\r\n\r\n", "X-Uidl:\n\nX-UIDL: body\n", "X-UIDL: third\n\n", "x-uidl:\tfirst \n\n",
         "X-UIDL: fifth\n\n",
      }
      local told = ids({ style = "dovecot", xuidl = true }, { "1.a", "2.b", "3.c", "4.d", "5.e" }, function(i)
         return messages[i]
      end)
      assert.same({ "first", "000000026b08d412", "own" }, { told[1], told[2], told[3] })
      assert.equal("5.e", told[5])
      assert.truthy(told[4]:find("^%x+$") and #told[4] == 64)
   end)

   it("takes no long time over an X-UIDL field, however it was made", function()
      list(HEADER .. "1 :1.a\n2 :2.b\n")
      local value = "x" .. (" "):rep(1000000) .. "y"
      local told = ids({ style = "dovecot", xuidl = true }, { "1.a", "2.b" }, function(i)
         return i == 1 and "X-UIDL: " .. value .. "\n\n" or "X-UIDL:   \n\n"
      end)
      assert.equal(uidl.fit(" " .. value), told[1])
      assert.equal("000000026b08d412", told[2])
   end)

   it("numbers messages as Dovecot does", function()
      local scheme = uidl.new("dovecot")
      local names = { "1.a", "2.b", "3.c", "4.d", "5.e", "6.f" }
      assert.is_nil(assert(scheme:read(dir)):arrange(names))
      list(HEADER .. "1 O7 :5.e\n2 :4.d\n3 O2 :gone\n4 O1 :2.b\n5 O7 :6.f\n6 :1.a\n")
      assert.same({ 2, 5, 6, 4, 1, 3 }, assert(scheme:read(dir)):arrange(names))
   end)

   for what, command in pairs {
      ["a directory"] = "mkdir %s", ["a FIFO"] = "mkfifo %s", ["a symbolic link"] = "ln -s /etc/passwd %s",
      ["larger than any list"] = "truncate -s 65M %s",
   } do
      it("cannot go on with a list that is " .. what, function()
         files.run(command, dir .. "/dovecot-uidlist")
         local found, why = uidl.new("dovecot"):read(dir)
         assert.is_nil(found)
         assert.truthy(why:find("dovecot-uidlist", 1, true), why)
      end)
   end

   it("goes on without a list that is none, and says so", function()
      list("#!/bin/sh\nrm -rf /\n")
      assert.same({ "1.a" }, ids("dovecot", { "1.a" }))
      assert.equal(1, #logged)
      assert.truthy(logged[1]:find('^warning .*cannot be used.*dovecot%-uidlist reason="no list of version 1 or 3"'))
   end)

   it("says which lines it could not read", function()
      list(HEADER .. "1 :1.a\nbroken\n\n2 :2.b\n")
      assert.same({ "000000016b08d412", "000000026b08d412" }, ids("dovecot", { "1.a", "2.b" }))
      assert.truthy(logged[1]:find("2 lines are broken; the first is line 3", 1, true), logged[1])
   end)

   it("lets others go on while it reads a long list", function()
      local lines, names = { HEADER }, {}
      for i = 1, 20000 do
         names[i] = ("17%08d.M%dP1.host"):format(i, i)
         lines[i + 1] = ("%d :%s:2,S\n"):format(i, names[i])
      end
      list(table.concat(lines))
      local done
      popd.spawn(function()
         local found = assert(uidl.new("dovecot"):read(dir))
         found:arrange(names)
         done = found:ids(names)
      end)
      local turns = 0
      while not done do
         popd.step(1)
         turns = turns + 1
      end
      assert.equal("00004e206b08d412", done[20000])
      assert.truthy(turns > 40, turns)
   end)
end)

describe("popd.maildir with unique-ids of other servers", function()
   local root, dir

   before_each(function()
      root = files.new_dir()
      dir = root .. "/joe"
      files.run("mkdir -p %s/new %s/cur %s/tmp", dir, dir, dir)
   end)

   after_each(function()
      client.finish()
      files.remove(root)
   end)

   local function put(...)
      for _, name in ipairs { ... } do
         files.put(dir .. "/" .. name, "Subject: x\n\nbody\n")
      end
   end

   local function list(text)
      files.put(dir .. "/dovecot-uidlist", text or HEADER .. "1 :1.a\n2 :2.b:2,S\n3 :3.c\n4 :4.d\n")
   end

   local function new(options)
      return maildir.new { root = root .. "/%s", uidl = options }
   end

   -- The unique-ids of a session that deletes nothing.
   local function session(options)
      local storage = new(options)
      assert.is_true(storage.lock("joe"))
      local sizes, found = storage.scan("joe")
      for id in ipairs(sizes) do
         assert.equal(found[id], storage.uidl("joe", id))
      end
      storage.unlock("joe")
      return found
   end

   local function remembered()
      return files.exists(dir .. "/popd-unique-ids")
   end

   for _, style in ipairs { "name", "dovecot", "cyrus", "courier", "md5", "sha1", "sha256" } do
      it("tells the same in each session, through moves and flags (" .. style .. ")", function()
         put("new/2.b", "new/1.a", "cur/3.c:2,S")
         files.put(dir .. "/new/4.d", "Subject: another\n\n")
         files.put(dir .. "/courierpop3dsizelist", "/3 9 17\n1.a 17 4:17:0\n2.b:2,S 17 5:17:0\n")
         list()
         local told = session(style)
         assert.equal(4, #told)
         files.run("mv %s/new/1.a %s/cur/1.a:2,FS", dir, dir)
         files.run("mv %s/cur/3.c:2,S %s/cur/3.c:2,RS", dir, dir)
         assert.same(told, session(style))
         assert.same(told, session(style))
      end)
   end

   for _, style in ipairs { "name", "dovecot", "cyrus", "courier", "md5", "sha1", "sha256" } do
      it("keeps what popd.check looks at (" .. style .. ")", function()
         put("new/2.b", "new/1.a", "cur/3.c:2,S")
         files.put(dir .. "/courierpop3dsizelist", "/3 9 17\n1.a 17 4:17:0\n2.b:2,S 17 5:17:0\n")
         list(HEADER .. "1 PUID1-1 O2 :1.a\n2 O1 :2.b:2,S\n3 :3.c\n4 :4.d\n")
         files.run("mkdir -p %s/ann/new", root)
         local delivered = 0
         local ok, report = popd.check(new(style), {
            mbox = "joe", other = "ann", destructive = true,
            put = function(mbox, text)
               delivered = delivered + 1
               files.put(("%s/%s/new/17%08d.M1P1.host"):format(root, mbox, delivered), text)
            end,
         })
         assert.is_true(ok, not ok and report[1].rule .. ": " .. report[1].call .. ": " .. report[1].got or nil)
      end)
   end

   it("numbers them as the other server did, and fetches and deletes the right ones", function()
      put("new/1.a", "new/2.b", "new/5.e")
      files.put(dir .. "/new/3.c", "third")
      list(HEADER .. "1 O2 :2.b\n2 O1 :3.c\n3 :1.a\n")
      local storage = new("dovecot")
      assert.is_true(storage.lock("joe"))
      assert.same({ "000000026b08d412", "000000016b08d412", "000000036b08d412", "5.e" }, select(2, storage.scan("joe")))
      assert.equal("third", files.text(storage.get("joe", 1).path))
      assert.is_true(storage.dele("joe", { 1, 3 }))
      storage.unlock("joe")
      assert.same({ false, true, false, true }, {
         files.exists(dir .. "/new/1.a"), files.exists(dir .. "/new/2.b"),
         files.exists(dir .. "/new/3.c"), files.exists(dir .. "/new/5.e"),
      })
   end)

   it("is a fault where the list cannot be read, and keeps no lock", function()
      put("new/1.a")
      files.run("mkdir %s/dovecot-uidlist", dir)
      local storage = new("dovecot")
      local ok, why = storage.lock("joe")
      assert.is_nil(ok)
      assert.truthy(why:find("dovecot-uidlist", 1, true), why)
      files.run("rmdir %s/dovecot-uidlist", dir)
      assert.is_true(storage.lock("joe"))
      storage.unlock("joe")
   end)

   it("reads a list elsewhere, by parts of the mbox", function()
      put("new/1.a")
      files.run("mkdir -p %s/lists/joe", root)
      files.put(root .. "/lists/joe/list", HEADER .. "7 :1.a\n")
      assert.same({ "000000076b08d412" }, session { style = "dovecot", file = root .. "/lists/%s/list" })
      assert.same({ "1.a" }, session { style = "dovecot", file = "not-here" })
   end)

   it("tells two messages of one name apart, whatever a list says of it", function()
      put("new/1.a", "cur/1.a:2,S")
      list()
      local told = session("dovecot")
      assert.equal(2, #told)
      assert.not_equal(told[1], told[2])
      assert.same(told, session("dovecot"))
   end)

   describe("raises the alarm", function()
      local server

      local function serve(options)
         server = client.server { auth = store.auth, storage = new(options) }
      end

      -- A login's reply and what UIDL lists.
      local function login()
         local c = client.connect(server)
         c:command("USER joe")
         local reply = c:command("PASS secret")
         local listing = reply:find("^%+OK") and select(2, c:command("UIDL"))
         c:command("QUIT")
         c:close()
         return reply, listing
      end

      local function alarms()
         return client.logged("unique%-ids have changed")
      end

      it("when many changed, and once", function()
         put("new/1.a", "new/2.b", "new/3.c", "new/4.d")
         list()
         session("dovecot")
         assert.is_true(remembered())
         list(HEADER:gsub("1795740690", "1795740691") .. "1 :1.a\n2 :2.b:2,S\n3 :3.c\n4 :4.d\n")
         serve("dovecot")
         assert.truthy(login():find("^%+OK"))
         assert.equal(1, #alarms())
         assert.truthy(alarms()[1]:find('changed="4 of 4 looked at"', 1, true), alarms()[1])
         assert.truthy(alarms()[1]:find("was=000000016b08d412", 1, true), alarms()[1])
         assert.truthy(login():find("^%+OK"))
         assert.equal(1, #alarms())
      end)

      it("and refuses such a login, again and again, if it should", function()
         put("new/1.a", "new/2.b")
         list()
         local told = session("dovecot")
         files.run("rm %s/dovecot-uidlist", dir)
         serve { style = "dovecot", refuse = true }
         for n = 1, 2 do
            assert.truthy(login():find("^%-ERR %[SYS/PERM%] the unique%-ids of this mailbox have changed"))
            assert.equal(n, #alarms())
         end
         list()
         local reply, listing = login()
         assert.truthy(reply:find("^%+OK"))
         assert.same({ "1 " .. told[1], "2 " .. told[2] }, listing)
      end)

      it("also where the option was forgotten", function()
         put("new/1.a")
         list()
         session("dovecot")
         serve()
         assert.truthy(login():find("^%+OK"))
         assert.equal(1, #alarms())
      end)

      it("not for a share that it should bear", function()
         put("new/1.a", "new/2.b", "new/3.c")
         list()
         session("dovecot")
         list(HEADER .. "1 :1.a\n2 :2.b\n4 :3.c\n")
         serve { style = "dovecot", alarm = 0.5 }
         login()
         assert.same({}, alarms())
      end)

      it("not for messages that come and go", function()
         put("new/1.a", "new/2.b", "new/3.c")
         list()
         session("dovecot")
         put("new/4.d", "new/5.e", "cur/6.f:2,")
         files.run("rm %s/new/1.a %s/new/2.b", dir, dir)
         serve { style = "dovecot", alarm = 0 }
         login()
         assert.same({}, alarms())
      end)

      it("not if it should not, and then nothing is remembered", function()
         put("new/1.a")
         list()
         session { style = "dovecot", alarm = false }
         assert.is_false(remembered())
         session("dovecot")
         serve { style = "courier", alarm = false }
         login()
         assert.same({}, alarms())
      end)
   end)

   describe("remembers", function()
      local function memory()
         return files.text(dir .. "/popd-unique-ids")
      end

      it("nothing unless unique-ids were chosen, nor of an empty maildrop", function()
         put("new/1.a")
         session(nil)
         files.run("rm %s/new/1.a", dir)
         session("dovecot")
         assert.is_false(remembered())
      end)

      it("what is left after a session, for its owner alone", function()
         put("new/1.a", "new/2.b")
         list()
         local storage = new("dovecot")
         assert.is_true(storage.lock("joe"))
         assert.is_true(storage.dele("joe", { 1 }))
         storage.unlock("joe")
         assert.equal("popd-unique-ids 1\n000000026b08d412 2.b\n", memory())
         files.run("test $(stat -c %%a %s) = 600", dir .. "/popd-unique-ids")
      end)

      it("64 messages of many, and writes again only when half of them are gone", function()
         for i = 100, 299 do
            put(("new/%d.a"):format(i))
         end
         session("name")
         local before = memory()
         assert.equal(65, select(2, before:gsub("\n", "")))
         files.run("rm %s/new/1*.a", dir)
         put("new/300.a")
         session("name")
         assert.equal(before, memory())
         files.run("rm %s/new/20*.a", dir)
         session("name")
         assert.not_equal(before, memory())
      end)

      it("in spite of what a crash left behind", function()
         put("new/1.a")
         files.put(dir .. "/tmp/popd-unique-ids", "half")
         session("name")
         assert.equal("popd-unique-ids 1\n1.a 1.a\n", memory())
         assert.is_false(files.exists(dir .. "/tmp/popd-unique-ids"))
      end)

      it("nothing where it cannot write, and serves all the same", function()
         put("new/1.a")
         files.run("rmdir %s/tmp", dir)
         assert.same({ "1.a" }, session("name"))
         files.run("ln -s /nonexistent %s/tmp", dir)
         assert.same({ "1.a" }, session("name"))
         assert.is_false(remembered())
      end)

      local nonsense = {
         "", "popd-unique-ids 1", "popd-unique-ids 2\nx 1.a\n", "popd-unique-ids 1\nx 1.a", "popd-unique-ids 1\nx\n",
         "popd-unique-ids 1\n" .. ("x 1.a\n"):rep(65), "popd-unique-ids 1\n" .. ("x"):rep(40000), "\0",
      }
      for _, text in ipairs(nonsense) do
         it(("nothing from a file that says %q"):format(text:sub(1, 30)), function()
            put("new/1.a")
            files.put(dir .. "/popd-unique-ids", text)
            assert.same({ "1.a" }, session { refuse = true, alarm = 0 })
            assert.equal("popd-unique-ids 1\n1.a 1.a\n", memory())
         end)
      end

      it("nothing from what is no file, and replaces no directory", function()
         put("new/1.a")
         files.put(root .. "/elsewhere", "popd-unique-ids 1\nx 1.a\n")
         files.run("ln -s %s %s", root .. "/elsewhere", dir .. "/popd-unique-ids")
         assert.same({ "1.a" }, session { refuse = true })
         assert.equal("popd-unique-ids 1\nx 1.a\n", files.text(root .. "/elsewhere"))
         files.run("rm %s; mkfifo %s", dir .. "/popd-unique-ids", dir .. "/popd-unique-ids")
         assert.same({ "1.a" }, session { refuse = true })
         files.run("rm -f %s; mkdir %s", dir .. "/popd-unique-ids", dir .. "/popd-unique-ids")
         assert.same({ "1.a" }, session { refuse = true })
         assert.is_false(files.exists(dir .. "/tmp/popd-unique-ids"))
      end)
   end)
end)
