-- A Maildir that Dovecot served, then popd-lua: no client may see a difference.
local dovecot = require("spec.support.dovecot")
local files = require("spec.support.files")
local program = require("spec.support.program")

local server_script = [[
   local popd, maildir = require "popd", require "popd.maildir"
   popd.new({
      port = 0, address = "127.0.0.1",
      auth = { lookup = function(name) return "{PLAIN}secret", name end },
      storage = maildir.new { root = %q, uidl = %s },
   }):up()
]]

-- pop3_uidl_format, and what a message gets that Dovecot has not seen: its name,
-- or what the format makes of that.
local function name(file)
   return file
end

local function md5(file)
   local _, out = program.run({ "sh", "-c", 'printf %s "$0" | md5sum' }, file)
   return out:sub(1, 32)
end

local formats = {
   -- those of Dovecot's documentation
   { "%08Xu%08Xv", name },
   { "%08Xv%08Xu", name },
   { "%f", name },
   { "%v-%u", name },
   { "%u-%v", name },
   { "%u", name },
   { "%v.%u", name },
   { "%g", name },
   { "%Mf", md5 },
   -- modifiers, offsets and widths
   { "%Uf", string.upper },
   { "%Lg", string.lower },
   { "%Rf", string.reverse },
   { "%Ef", name },
   { "%Df", function(file) return (file:gsub("%.", ",dc=")) end },
   { "%Tf", name },
   { "%Hf-%u", name },
   { "%1000Hf-%u", name },
   { "%8.1000Hf-%u", name },
   { "%Nf-%u", name },
   { "%30Nf.%u", name },
   { "%4.30Nf.%u", name },
   { "%UXv.%LXu", name },
   { "%05u", name },
   { "%2.4Xv:%u", name },
   { "%-3.0Xv:%u", name },
   { "%-3v:%u", name },
   { "%1.-2v:%u", name },
   { "%0.012Xu", name },
   { "%20f", function(file) return file:sub(1, 20) end },
   { "%UMf", function(file) return md5(file:upper()) end },
   { "%MUf", function(file) return md5(file):upper() end },
}

describe("a Maildir that Dovecot served", function()
   local dir, mail, running, server

   local function set_up()
      dir = files.new_dir()
      mail = dir .. "/mail"
      files.run("mkdir -p %s/joe/cur %s/joe/new %s/joe/tmp", mail, mail, mail)
   end

   local function tear_down()
      if running then
         running:stop()
      end
      if server then
         server:stop()
      end
      running, server = nil, nil
      files.remove(dir)
   end

   local function put(file, text)
      files.put(("%s/joe/%s"):format(mail, file), text or "Subject: x\n\nbody\n")
   end

   local function move(from, to)
      files.run("mv %s %s", mail .. "/" .. from, mail .. "/" .. to)
   end

   local function session(...)
      local client = running:login("joe")
      local listing = running:listing(client)
      client:say(...)
      client:say("QUIT")
      client:close()
      return listing
   end

   -- What Dovecot lists, and what it does with further commands.
   local function by_dovecot(settings, ...)
      running = dovecot.start(dir, mail, settings)
      local listing = session(...)
      running:stop()
      running = nil
      return listing
   end

   local function listing_of(user, port)
      local client = program.connect(port)
      local reply = client:login(user, "secret")
      assert.truthy(reply:find("^%+OK"), reply)
      local listing = client:multi("UIDL")
      client:say("QUIT")
      client:close()
      return listing
   end

   -- What popd-lua lists; uidl is Lua text.
   local function by_popd(uidl, user)
      server = program.start(program.popd_lua(), "-e", server_script:format(mail .. "/%s", uidl))
      local listing = listing_of(user or "joe", server:port())
      server:stop()
      server = nil
      return listing
   end

   local function list_path()
      return mail .. "/joe/dovecot-uidlist"
   end

   -- Adds fields to entries of the list, as migrations from other servers do.
   local function annotate(fields)
      local text = files.text(list_path())
      for uid, field in pairs(fields) do
         local count
         text, count = text:gsub(("\n%d "):format(uid), ("\n%d %s "):format(uid, field), 1)
         assert(count == 1)
      end
      files.put(list_path(), text)
   end

   -- Some weeks of a mailbox: mail in new and cur, deletions, other flags, ids that
   -- came with a migration.
   local function live(settings)
      put("new/1700000003.M3P3.host,S=17")
      put("new/1700000001.M1P1.host")
      put("cur/1700000002.M2P2.host:2,S")
      put("cur/1700000000.M0P0.host,S=17,W=20:2,RS")
      put("cur/1600000000.M9P9.Host_x=y:2,")
      by_dovecot(settings, "DELE 2", "RETR 3")
      annotate { [1] = "PUID7-1234567890", [3] = "Pold:id W99 Ptwo", [5] = "Gabcdef0123" }
      put("new/1700000004.M4P4.host")
      move("joe/cur/1700000002.M2P2.host:2,S", "joe/cur/1700000002.M2P2.host:2,FS")
      by_dovecot(settings, "RETR 4")
      annotate { [6] = "O3", [3] = "O7" }
   end

   local function append(listing, id)
      listing[#listing + 1] = ("%d %s"):format(#listing + 1, id)
      return listing
   end

   describe("keeps its unique-ids and numbers with the format", function()
      local told = {}

      -- One Dovecot lists them all, each format at an address of its own.
      lazy_setup(function()
         if dovecot.missing() then
            return
         end
         set_up()
         live()
         local sets = {}
         for n, case in ipairs(formats) do
            sets[n] = { pop3_uidl_format = case[1] }
         end
         running = dovecot.start(dir, mail, nil, sets)
         for n in ipairs(formats) do
            local client = running:login("joe", dovecot.address(n))
            told[n] = running:listing(client)
            client:close()
         end
         running:stop()
         running = nil
         put("new/1700000099.M5P5.host")
      end)

      lazy_teardown(function()
         if dir then
            tear_down()
         end
      end)

      for n, case in ipairs(formats) do
         it(case[1], function()
            if dovecot.missing() then
               return pending(dovecot.missing())
            end
            assert.equal(5, #told[n])
            append(told[n], case[2]("1700000099.M5P5.host"))
            local uidl = ("{ style = 'dovecot', format = %q }"):format(case[1])
            assert.same(told[n], by_popd(uidl))
            move("joe/new/1700000099.M5P5.host", "joe/cur/1700000099.M5P5.host:2,S")
            assert.same(told[n], by_popd(uidl))
            move("joe/cur/1700000099.M5P5.host:2,S", "joe/new/1700000099.M5P5.host")
            files.run("rm -f %s/joe/popd-unique-ids", mail)
         end)
      end

      it("that is the style cyrus, or its own default", function()
         if dovecot.missing() then
            return pending(dovecot.missing())
         end
         for format, uidl in pairs { ["%08Xu%08Xv"] = "'dovecot'", ["%v.%u"] = "'cyrus'" } do
            for n, case in ipairs(formats) do
               if case[1] == format then
                  assert.same(told[n][1], by_popd(uidl)[1])
               end
            end
            files.run("rm -f %s/joe/popd-unique-ids", mail)
         end
      end)
   end)

   describe("and then popd-lua", function()
      before_each(set_up)
      after_each(tear_down)

      local function needs(f)
         return function()
            if dovecot.missing() then
               return pending(dovecot.missing())
            end
            f()
         end
      end

      it("keeps unique-ids that pop3_save_uidl wrote down, and gives new mail its name", needs(function()
         local settings = { pop3_uidl_format = "%v.%u", pop3_save_uidl = "yes" }
         live(settings)
         local told = by_dovecot(settings)
         put("new/1700000099.M5P5.host")
         append(told, "1700000099.M5P5.host")
         assert.same(told, by_popd("{ style = 'dovecot', format = '%f' }"))
      end))

      it("keeps unique-ids of X-UIDL fields with pop3_reuse_xuidl", needs(function()
         put("new/1700000001.M1P1.host", "X-UIDL: 1f0c2b7a9d3e4f5061728394a5b6c7d8\nSubject: a\n\nb\n")
         put("new/1700000002.M2P2.host", "Subject: a\nx-uidl:  \t !+'\"spaced~  \n\nb\n")
         put("new/1700000003.M3P3.host", "Subject: a\r\nX-Uidl: crlf\r\n\r\nb\r\n")
         put("new/1700000004.M4P4.host", "Subject: a\n\nX-UIDL: of the body\n")
         local told = by_dovecot { pop3_reuse_xuidl = "yes" }
         told[2] = told[2]:gsub(" *$", "") -- blanks at the end are no part of it
         put("new/1700000005.M5P5.host", "X-UIDL: new\n\nb\n")
         append(told, "1700000005.M5P5.host")
         assert.same(told, by_popd("{ style = 'dovecot', xuidl = true }"))
      end))

      it("tells unique-ids that POP3 allows where Dovecot's are none", needs(function()
         local long = "1700000001.M1P1." .. ("h"):rep(60)
         put("new/" .. long)
         put("new/1700000002.M2P2.host")
         local told = by_dovecot { pop3_uidl_format = "%f" }
         assert.equal("1 " .. long, told[1])
         local listing = by_popd("{ style = 'dovecot', format = '%f' }")
         assert.truthy(listing[1]:find("^1 %x+$") and #listing[1] == 66)
         assert.equal(told[2], listing[2])
      end))

      it("tells what Dovecot told twice once each, as its 'rename' would", needs(function()
         for i = 1, 5 do
            put(("new/170000000%d.M1P1.host"):format(i))
         end
         by_dovecot()
         annotate { [1] = "Psame", [2] = "Psame", [4] = "Psame-2", [5] = "Psame" }
         local told = by_dovecot { pop3_uidl_duplicates = "rename" }
         assert.same({ "1 same", "2 same-2" }, { told[1], told[2] })
         assert.same(told, by_popd("'dovecot'"))
         files.run("rm %s/joe/cur/1700000001.M1P1.host:2,", mail)
         assert.equal("1 same-2", by_popd("'dovecot'")[1])
      end))

      it("reads a list of Dovecot 1.0 as Dovecot does", needs(function()
         put("cur/1700000001.M1P1.host:2,")
         put("cur/1700000002.M2P2.host:2,S")
         put("new/1700000003.M3P3.host")
         files.put(list_path(), "1 1234567890 9\n3 1700000002.M2P2.host:2,S\n5 gone\n8 1700000001.M1P1.host:2,\n")
         local told = by_popd("'cyrus'")
         assert.same({ "1 1234567890.3", "2 1234567890.8", "3 1700000003.M3P3.host" }, told)
         local by_itself = by_dovecot { pop3_uidl_format = "%v.%u" }
         assert.same({ told[1], told[2], "3 1234567890.9" }, by_itself)
         assert.truthy(files.text(list_path()):find("^3 V1234567890"))
      end))

      it("reads a list in another directory, where Dovecot has its CONTROL", needs(function()
         put("new/1700000001.M1P1.host")
         files.run("mkdir %s/control", mail)
         local told = by_dovecot { mail_location = ("maildir:%s/%%u:CONTROL=%s/control/%%u"):format(mail, mail) }
         assert.is_false(files.exists(list_path()))
         local path = mail .. "/control/%s/.INBOX/dovecot-uidlist"
         assert.same(told, by_popd(("{ style = 'dovecot', file = %q }"):format(path)))
      end))

      it("keeps unique-ids while Dovecot goes on with IMAP, from a copy of the list", needs(function()
         put("new/1700000001.M1P1.host")
         local told = by_dovecot()
         files.run("cp %s %s", list_path(), list_path() .. ".popd")
         put("new/1700000002.M2P2.host")
         append(told, "1700000002.M2P2.host")
         local uidl = "{ style = 'dovecot', file = 'dovecot-uidlist.popd' }"
         assert.same(told, by_popd(uidl))
         by_dovecot()
         assert.truthy(files.text(list_path()):find("1700000002", 1, true))
         assert.same(told, by_popd(uidl))
      end))

      it("changes nothing of Dovecot's", needs(function()
         live()
         local told = by_dovecot()
         local before = files.text(list_path())
         by_popd("'dovecot'")
         assert.equal(before, files.text(list_path()))
         assert.same(told, by_dovecot())
      end))
   end)
end)
