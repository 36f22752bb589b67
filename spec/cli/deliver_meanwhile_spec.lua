-- `popd-lua deliver` into a maildrop that a session has open: the session does not see
-- what comes and deletes none of it; the next one has all.  (mbox: see mbox_delivery_spec.)
local client = require("support.client")
local files = require("support.files")
local program = require("support.program")

local has_driver = pcall(require, "luasql.sqlite3")

describe("popd-lua deliver, while a session has the maildrop,", function()
   local dir

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      client.finish()
      files.remove(dir)
   end)

   -- name, what the command line calls it, the storage
   local stores = {
      { "maildir", "maildir:%s/%%s", function()
         return require("popd.maildir").new { root = dir .. "/%s" }
      end },
      { "dbox", "dbox:%s", function()
         local box = require("popd.dbox").new { base = dir }
         assert(box.add("joe"))
         return box
      end },
      { "sqlite", "sqlite:%s/mail.db", function()
         local store = require("popd.sqlite").new { file = dir .. "/mail.db", threads = 1 }
         assert(store.add("joe", "{PLAIN}secret"))
         return store
      end },
   }

   local function deliver(store, text)
      local words = { "sh", "-c", 'exec "$@" < ' .. files.quote(files.put(dir .. "/.text", text)), "sh", program.path(),
         "deliver", "--store", store[2]:format(dir) }
      table.move(files.as_oneself(), 1, 2, #words + 1, words)
      local status, _, err = program.run(words, "joe")
      assert.same({ 0, "" }, { status, err })
   end

   local function text_of(which, i)
      return ("Subject: %s %d\r\n\r\ntext\r\n"):format(which, i)
   end

   for _, store in ipairs(stores) do
      it("is for the next one: " .. store[1], function()
         if store[1] == "sqlite" and not has_driver then
            return pending("LuaSQL's sqlite3 driver is not installed")
         end
         local server = client.server {
            auth = { lookup = function(name) return "{PLAIN}secret", name end }, storage = store[3](),
         }
         for i = 1, 3 do
            deliver(store, text_of("first", i))
         end
         local c = client.login(server)
         assert.matches("^%+OK 3 ", c:command("STAT"))
         for i = 1, 3 do
            assert.matches("^%+OK", c:command("DELE " .. i))
            deliver(store, text_of("second", i))
         end
         assert.matches("^%+OK 0 0", c:command("STAT"))
         assert.matches("^%+OK", c:command("QUIT"))
         c = client.login(server)
         assert.matches("^%+OK 3 ", c:command("STAT"))
         local found, expected = {}, {}
         for i = 1, 3 do
            found[(c:fetch("RETR " .. i))], expected[text_of("second", i)] = true, true
         end
         assert.same(expected, found)
      end)
   end
end)
