-- A Maildir that Courier served, then popd-lua: no client may see a difference.
local files = require("spec.support.files")
local program = require("spec.support.program")

-- Unpacked by `make peers`; its libraries are beside it.
local TREE = "build/courier"
local POP3D = TREE .. "/usr/lib/courier/courier/courierpop3d"

local function works()
   return os.execute(("test -x %s"):format(POP3D)) == true
end

local server_script = [[
   local popd, maildir = require "popd", require "popd.maildir"
   popd.new({
      port = 0, address = "127.0.0.1",
      auth = { lookup = function(name) return "{PLAIN}secret", name end },
      storage = maildir.new { root = %q, uidl = "courier" },
   }):up()
]]

describe("a Maildir that Courier served", function()
   local dir, server

   before_each(function()
      dir = files.new_dir()
      files.run("mkdir -p %s/joe/cur %s/joe/new %s/joe/tmp", dir, dir, dir)
   end)

   after_each(function()
      if server then
         server:stop()
      end
      server = nil
      files.remove(dir)
   end)

   local function put(file)
      files.put(("%s/joe/%s"):format(dir, file), "Subject: x\n\nbody\n")
   end

   local function move(from, to)
      files.run("mv %s %s", ("%s/joe/%s"):format(dir, from), ("%s/joe/%s"):format(dir, to))
   end

   local function list(text)
      return files.put(dir .. "/joe/courierpop3dsizelist", text)
   end

   -- A session as after the login: what it lists, and what it does with further
   -- commands.
   local function by_courier(...)
      local commands = files.put(dir .. "/commands", table.concat({ "UIDL", ... }, "\r\n") .. "\r\nQUIT\r\n")
      local _, out = program.run({ "sh", "-c", [[
         LD_LIBRARY_PATH=$0/usr/lib:$(echo $0/usr/lib/*-linux-*) AUTHENTICATED=joe exec "$1" "$2" <"$3"
      ]], TREE, POP3D, dir .. "/joe" }, commands)
      local listing = {}
      for line in out:match("^.-\r\n%+OK\r\n(.-)%.\r\n"):gmatch("([^\r]*)\r\n") do
         listing[#listing + 1] = line
      end
      return listing
   end

   local function by_popd()
      server = program.start(program.popd_lua(), "-e", server_script:format(dir .. "/%s"))
      local client = program.connect(server:port())
      local reply = client:login("joe", "secret")
      assert.truthy(reply:find("^%+OK"), reply)
      local listing = client:multi("UIDL")
      client:say("QUIT")
      client:close()
      server:stop()
      server = nil
      return listing
   end

   local function append(listing, id)
      listing[#listing + 1] = ("%d %s"):format(#listing + 1, id)
      return listing
   end

   -- Mail that came after Courier had stopped keeps the name it gets.
   local function check(told)
      put("new/1700000099.M9P9.host")
      append(told, "1700000099.M9P9.host")
      assert.same(told, by_popd())
      move("new/1700000099.M9P9.host", "cur/1700000099.M9P9.host:2,S")
      assert.same(told, by_popd())
   end

   it("keeps its unique-ids and numbers", function()
      if not works() then
         return pending("Courier is not unpacked (make peers)")
      end
      put("new/1700000003.M3P3.host,S=17")
      put("new/1700000001.M1P1.host")
      put("cur/1700000002.M2P2.host:2,S")
      put("cur/1700000000.M0P0.host:2,RS")
      put("cur/999999999.M4P4.host:2,")
      by_courier("DELE 2", "RETR 3")
      put("new/1700000000.M5P5.other")
      move("cur/1700000002.M2P2.host:2,S", "cur/1700000002.M2P2.host:2,FS")
      by_courier()
      local told = by_courier()
      assert.equal(5, #told)
      check(told)
   end)

   it("keeps unique-ids that came from older versions of it", function()
      if not works() then
         return pending("Courier is not unpacked (make peers)")
      end
      put("cur/1700000001.M'1\"+P1.host:2,")
      put("cur/1700000002.M2P2.host:2,S")
      put("cur/1700000003.M3 P3.host:2,S")
      put("cur/1700000004.M4P4.host:2,S")
      list("/2 9 1234567890\n1700000001.M'1\"+P1.host:2, 20 0:0\n1700000002.M2P2.host:2, 20 7:0\n"
         .. "1700000003.M3 P3.host:2,S 20 0:0\n1700000004.M4P4.host:2, 20 8:1234567000\n")
      local told = by_courier()
      assert.same({
         "1 1700000001.M+271+22+2BP1.host", "2 UID7", "3 1700000003.M3+20P3.host", "4 UID8-1234567000",
      }, told)
      check(told)
   end)

   it("keeps unique-ids of a list that this Courier would write anew", function()
      if not works() then
         return pending("Courier is not unpacked (make peers)")
      end
      put("cur/1700000001.M1P1.host:2,")
      put("cur/1700000002.M2P2.host:2,S")
      list("/2 9 1234567890\n1700000001.M1P1.host:2, 20 3:1234567890\n1700000002.M2P2.host:2, 20 7:1234567891\n")
      local before = by_popd()
      assert.same(before, by_courier())
      assert.truthy(files.text(dir .. "/joe/courierpop3dsizelist"):find("^/3 "))
      assert.same(before, by_popd())
   end)
end)
