-- Programs that deliver into a Maildir while a session has it: the session does not
-- see what comes, deletes none of it, and the next one has all.
local client = require("support.client")
local files = require("spec.support.files")
local maildir = require("popd.maildir")
local process = require("support.process")

local MESSAGES = 5

describe("delivery into a Maildir", function()
   local root, server

   before_each(function()
      root = files.new_dir()
      files.run("mkdir -p %s %s %s", root .. "/joe/new", root .. "/joe/cur", root .. "/joe/tmp")
   end)

   after_each(function()
      client.finish()
      files.remove(root)
   end)

   -- What runs, with a message as its input.
   local deliverers = {
      { name = "procmail", has = "procmail", command = function()
         local rc = files.put(root .. "/rc", ("DEFAULT=%s/joe/\n"):format(root))
         files.run("chmod 600 %s", rc)
         return { "procmail", "-f", "mta@example.org", "-m", rc }
      end },
      { name = "maildrop", has = "maildrop", command = function()
         local rc = files.put(root .. "/rc", ('DEFAULT=%q\nto %q\n'):format(root .. "/joe", root .. "/joe"))
         files.run("chmod 600 %s", rc)
         return { "maildrop", "-f", "mta@example.org", rc }
      end },
      { name = "a program by the book", has = "sh", command = function()
         return { "sh", "-c", 'n=$(date +%s.%N).P$$.host; cat >"$1/tmp/$n" && mv "$1/tmp/$n" "$1/new/$n"', "sh",
            root .. "/joe" }
      end },
   }

   local function deliver(command, text)
      local mail, words = files.put(root .. "/mail", text), {}
      for i, word in ipairs(command) do
         words[i] = files.quote(word)
      end
      assert(os.execute(table.concat(words, " ") .. " < " .. files.quote(mail)))
   end

   local function subjects(c, n)
      local found = {}
      for number = 1, n do
         local _, lines = c:command("RETR " .. number)
         for _, line in ipairs(lines) do
            found[#found + 1] = line:match("^Subject: (.*)")
         end
      end
      table.sort(found)
      return found
   end

   for _, deliverer in ipairs(deliverers) do
      for _, how in ipairs { "unlink", "flag", ".Trash" } do
         it(("by %s is for the next session, where dele = %q"):format(deliverer.name, how), function()
            if not process.has(deliverer.has) then
               return pending(deliverer.has .. " is not installed")
            end
            server = client.server {
               auth = { lookup = function(name) return "{PLAIN}secret", name end },
               storage = maildir.new { root = root .. "/%s", dele = how },
            }
            local command = deliverer.command()
            for i = 1, MESSAGES do
               deliver(command, ("Subject: first %d\n\ntext\n"):format(i))
            end
            local c = client.login(server, "joe", "secret")
            assert.matches("^%+OK 5 ", c:command("STAT"))
            for i = 1, MESSAGES do
               assert.matches("^%+OK", c:command("DELE " .. i))
               deliver(command, ("Subject: second %d\n\ntext\n"):format(i))
            end
            assert.matches("^%+OK 0 0", c:command("STAT"))
            assert.matches("^%+OK", c:command("QUIT"))
            c = client.login(server, "joe", "secret")
            assert.matches("^%+OK 5 ", c:command("STAT"))
            assert.same({ "second 1", "second 2", "second 3", "second 4", "second 5" }, subjects(c, MESSAGES))
         end)
      end
   end
end)
