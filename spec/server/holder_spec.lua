local client = require("support.client")
local files = require("spec.support.files")
local store = require("support.store")

-- The log's line of a login that found the maildrop locked.
local function refused(server)
   local c = client.connect(server)
   c:command("USER joe")
   assert.truthy(c:command("PASS secret"):find("^%-ERR %[IN%-USE%]"))
   return client.logged("login refused.*why=in%-use")[1]
end

local has_driver = pcall(require, "luasql.sqlite3")

describe("the log's line of a locked maildrop", function()
   local dir, other

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      client.finish()
      if other then
         other.stop()
         other = nil
      end
      files.remove(dir)
   end)

   local function contains(line, fields)
      for _, field in ipairs(fields) do
         assert.truthy(line:find(field), line)
      end
   end

   local SESSION = { " held_by=session ", " held_process=%d+ ", " held_conn=%d+ ", " held_age=0 ", " held_idle=0 " }

   it("tells which session of this process has it", function()
      local server = store.server({ "a\n" })
      client.login(server)
      contains(refused(server), SESSION)
   end)

   it("tells so of a storage in Tcl's form, too", function()
      local held = false
      local server = client.server { auth = store.auth, storage = function(operation)
         if operation == "lock" then
            local was = held
            held = true
            return not was
         end
         return (operation == "stat" or operation == "size") and 0 or nil
      end }
      client.login(server)
      contains(refused(server), SESSION)
   end)

   it("tells of no session that has ended", function()
      local held = false
      local server = store.server({ "a\n" }, {}, { lock = function() return not held end, unlock = false })
      client.login(server):command("QUIT")
      held = true
      assert.is_nil(refused(server):find("held_"))
   end)

   -- What a lock returns behind its false, and what of it is told.
   for what, case in pairs {
      ["what a storage knows"] = { { kind = "row", process = 12, age = 3.4, path = "x y" },
         { " held_by=row ", " held_process=12 ", " held_age=3 ", ' held_path="x y" ' } },
      ["what of it is text or numbers"] = { { kind = {}, process = print, conn = setmetatable({}, {
         __tostring = error }), age = 0 / 0, nobody = "knows" }, { " held_age=%-?nan " } },
      nothing = { nil, {} },
   } do
      it("tells " .. what, function()
         local server = store.server({ "a\n" }, {}, { lock = function() return false, case[1] end })
         local line = refused(server)
         contains(line, case[2])
         local _, fields = line:gsub(" held_", "")
         assert.equal(#case[2], fields, line)
      end)
   end

   it("is none where the second value says what the client reads", function()
      local answer = { code = "SYS/PERM", text = "no" }
      local server = store.server({ "a\n" }, {}, { lock = function() return false, answer end })
      local c = client.connect(server)
      c:command("USER joe")
      assert.equal("-ERR [SYS/PERM] no", c:command("PASS secret"))
   end)

   -- Another process holds joe's maildrop by a storage that is made so.
   local function elsewhere(text)
      other = files.other_process("say(tostring((" .. text .. ".lock('joe', {}))))")
      assert.equal("true", other.said)
      return client.server { auth = store.auth, storage = assert(load("return " .. text))() }
   end

   for _, kinds in ipairs { '"fcntl", "dotlock"', '"dotlock"', '"flock", "dotlock"' } do
      it("tells another process that has an mbox by " .. kinds, function()
         files.put(dir .. "/joe", "From a@b Thu Jan  1 00:00:00 2026\nSubject: x\n\nhi\n\n")
         local server = elsewhere(('require("popd.mbox").new { root = %q, lock = { %s } }'):format(dir .. "/%s", kinds))
         contains(refused(server), { " held_by=" .. kinds:match("%l+"), " held_process=%d+ ", " held_age=%d ", "/joe" })
      end)
   end

   it("tells another process that has a lease in an SQLite file", function()
      if not has_driver then
         return pending("LuaSQL's sqlite3 driver is not installed")
      end
      local text = ('require("popd.sqlite").new { file = %q, threads = 1 }'):format(dir .. "/mail.db")
      assert(assert(load("return " .. text))().add("joe", "{PLAIN}secret"))
      contains(refused(elsewhere(text)), { " held_by=lease ", " held_process=%d+ ", " held_age=%d " })
   end)
end)
