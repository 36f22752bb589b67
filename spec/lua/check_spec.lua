-- popd.check: a right storage passes, and each planted fault is named by its rule.
local client = require("support.client")
local core = require("popd.core")
local files = require("spec.support.files")
local fs = require("popd.fs")
local popd = require("popd")

-- A storage that is right in every way: messages are { text =, uid = }, fixed by
-- lock.  `plant(storage, s)` makes it wrong.
local function new(plant)
   local s = { mail = {}, sessions = {}, given = 0, dir = nil }
   local storage = {}

   function s.put(_, text)
      s.given = s.given + 1
      table.insert(s.mail, { text = text, uid = ("uid-%d"):format(s.given) })
   end

   function s.of(mbox, id)
      return s.sessions[mbox][id] or error("no message " .. id)
   end

   -- Takes messages out of the mail by what they are.
   function s.remove(doomed)
      for i = #s.mail, 1, -1 do
         if doomed[s.mail[i]] then
            table.remove(s.mail, i)
         end
      end
   end

   function storage.lock(mbox)
      if s.sessions[mbox] then
         return false
      end
      s.sessions[mbox] = table.move(s.mail, 1, #s.mail, 1, {})
      return true
   end

   function storage.unlock(mbox)
      s.sessions[mbox] = nil
   end

   function storage.renew(mbox)
      return s.sessions[mbox] ~= nil
   end

   function storage.stat(mbox)
      return #s.sessions[mbox]
   end

   function storage.size(mbox, id)
      local total = 0
      for i, message in ipairs(s.sessions[mbox]) do
         total = total + ((not id or i == id) and fs.octets_of(message.text) or 0)
      end
      return total
   end

   function storage.uidl(mbox, id)
      return s.of(mbox, id).uid
   end

   function storage.get(mbox, id)
      return s.of(mbox, id).text
   end

   function storage.top(mbox, id)
      return s.of(mbox, id).text
   end

   function storage.dele(mbox, ids)
      local doomed = {}
      for _, id in ipairs(ids) do
         doomed[s.of(mbox, id)] = true
      end
      s.remove(doomed)
      return true
   end

   s.storage = storage
   if plant then
      plant(storage, s)
   end
   return s
end

-- The rules that are broken, sorted.
local function broken(report)
   local names, seen = {}, {}
   for _, found in ipairs(report) do
      assert.is_string(found.call)
      assert.is_string(found.got)
      if not seen[found.rule] then
         names[#names + 1], seen[found.rule] = found.rule, true
      end
   end
   table.sort(names)
   return table.concat(names, " ")
end

local function state(report, rule)
   for _, one in ipairs(report.rules) do
      if one.rule == rule then
         return one.state
      end
   end
end

local function check(s, options)
   local all = { mbox = "joe", put = s.put, other = "ann" }
   for name, value in pairs(options or {}) do
      all[name] = value or nil
   end
   return popd.check(s.storage, all)
end

-- A message in a file, for handles that name one.
local function file_of(s, text)
   s.dir = s.dir or files.new_dir()
   local name = ("%s/%s"):format(s.dir, fs.sha256(text):sub(1, 20))
   fs.write(name, text)
   return name
end

-- Any number of sessions at a time, each with numbers of its own.
local function without_lock(storage, s)
   local function of(conn)
      conn.data.list = conn.data.list or table.move(s.mail, 1, #s.mail, 1, {})
      return conn.data.list
   end
   for name in pairs(storage) do
      storage[name] = nil
   end
   function storage.stat(_, conn) return #of(conn) end
   function storage.get(_, id, conn) return of(conn)[id].text end
   function storage.uidl(_, id, conn) return of(conn)[id].uid end
   function storage.dele(_, ids, conn)
      local doomed = {}
      for _, id in ipairs(ids) do
         doomed[of(conn)[id]] = true
      end
      s.remove(doomed)
      return true
   end
end

-- what is wrong, the rules that are broken, what makes it so
local faults = {
   { "a shifting id", "ids", function(storage, s)
      local calls = 0
      function storage.get(mbox, id)
         calls = calls + 1
         local n = #s.sessions[mbox]
         return s.of(mbox, calls > 2 * n and id % n + 1 or id).text
      end
      storage.top, storage.size, storage.uidl = nil, nil, nil
   end },
   { "new mail that shows in the session that is open", "ids", function(storage, s)
      local put = s.put
      function s.put(mbox, text)
         put(mbox, text)
         table.insert(s.mail, 1, table.remove(s.mail))
      end
      function storage.lock(mbox)
         if s.sessions[mbox] then
            return false
         end
         s.sessions[mbox] = s.mail
         return true
      end
   end },
   { "a wrong size", "size", function(storage, s)
      function storage.size(mbox, id)
         local total = 0
         for i, message in ipairs(s.sessions[mbox]) do
            total = total + ((not id or i == id) and #message.text or 0)
         end
         return total
      end
   end },
   { "a wrong size of one message", "size", function(storage)
      local size = storage.size
      function storage.size(mbox, id)
         return size(mbox, id) + (id == 2 and 1 or 0)
      end
   end },
   { "a total that is no sum", "total", function(storage)
      local size = storage.size
      function storage.size(mbox, id)
         return math.max(0, size(mbox, id) - (id and 0 or 1))
      end
   end },
   { "a scan that tells other sizes", "scan", function(storage, s)
      function storage.scan(mbox)
         local sizes = {}
         for i, message in ipairs(s.sessions[mbox]) do
            sizes[i] = fs.octets_of(message.text) + (i == 3 and 1 or 0)
         end
         return sizes
      end
   end },
   { "a repeated unique-id", "uid-unique", function(_, s)
      local put = s.put
      function s.put(mbox, text)
         put(mbox, text)
         if s.given == 2 then
            s.mail[#s.mail].uid = s.mail[#s.mail - 1].uid
         end
      end
   end },
   { "an unstable unique-id", "uid-stable", function(storage, s)
      local logins, lock = 0, storage.lock
      function storage.lock(mbox)
         local got = lock(mbox)
         logins = logins + (got and 1 or 0)
         return got
      end
      function storage.uidl(mbox, id)
         return ("%d-%s"):format(logins, s.of(mbox, id).uid)
      end
   end },
   { "a unique-id that is given again", "uid-reused", function(storage, s)
      local put = s.put
      function s.put(mbox, text) -- one above the highest that is there
         local highest = 0
         for _, message in ipairs(s.mail) do
            highest = math.max(highest, math.tointeger(message.uid:match("%d+")))
         end
         put(mbox, text)
         s.mail[#s.mail].uid = "uid-" .. highest + 1
      end
      storage.top = nil
   end },
   { "a unique-id that is the place", "uid-reused uid-stable", function(storage)
      function storage.uidl(_, id)
         return "uid-" .. id
      end
   end },
   { "a unique-id with a space", "uid-form", function(storage)
      function storage.uidl(_, id)
         return "uid " .. id
      end
   end },
   { "a lock that does not exclude", "lock", function(storage, s)
      function storage.lock(mbox)
         s.sessions[mbox] = table.move(s.mail, 1, #s.mail, 1, {})
         return true
      end
      storage.unlock = function() end
   end },
   { "an unlock of who is refused, which frees the holder's lock", "lock-kept", function(storage)
      local lock = storage.lock
      function storage.lock(mbox)
         local got = lock(mbox)
         if not got then
            storage.unlock(mbox)
         end
         return got
      end
      storage.renew = nil
   end },
   { "an unlock that frees another maildrop's lock", "lock-other", function(storage, s)
      local gone = storage.unlock
      function storage.unlock(mbox)
         gone(mbox)
         if mbox == "ann" then
            s.freed, s.sessions.joe = s.sessions.joe, nil
         end
      end
   end },
   { "a lock of all maildrops", "lock-other", function(storage, s)
      local lock = storage.lock
      function storage.lock(mbox)
         return not next(s.sessions) and lock(mbox)
      end
   end },
   { "an unlock that does not unlock", "unlock", function(storage)
      storage.unlock = nil
   end },
   { "a lock that is never free", "lock", function(storage)
      function storage.lock() return false end
   end },
   { "a renew that says no", "renew", function(storage)
      local calls = 0
      function storage.renew()
         calls = calls + 1
         return calls > 1
      end
   end },
   { "a deletion too many", "dele-more", function(storage, s)
      local dele = storage.dele
      function storage.dele(mbox, ids)
         local more = { table.unpack(ids) }
         if not s.sessions[mbox][ids[1] + 1] then
            return dele(mbox, ids)
         end
         table.insert(more, ids[1] + 1)
         return dele(mbox, more)
      end
   end },
   { "a deletion by place, which moves the others", "dele-less dele-more", function(storage, s)
      function storage.dele(_, ids)
         for _, id in ipairs(ids) do
            if s.mail[id] then
               table.remove(s.mail, id)
            end
         end
         return true
      end
   end },
   { "a deletion too few that says true", "dele-less", function(storage)
      local dele = storage.dele
      function storage.dele(mbox, ids)
         return dele(mbox, { table.unpack(ids, 2) })
      end
   end },
   { "a deletion at DELE instead of at QUIT", "quit-only", function(storage)
      local unlock, dele = storage.unlock, storage.dele
      function storage.unlock(mbox, conn)
         dele(mbox, conn.deleted)
         return unlock(mbox)
      end
      function storage.dele()
         return true
      end
   end },
   { "a deletion of what was fetched", "cut quit-only", function(storage, s)
      local get, unlock, fetched = storage.get, storage.unlock, {}
      function storage.get(mbox, id)
         fetched[s.of(mbox, id)] = id == 1 or nil
         return get(mbox, id)
      end
      function storage.unlock(mbox)
         s.remove(fetched)
         unlock(mbox)
      end
   end },
   { "a number that no message has and that deletes one", "range", function(storage, s)
      local get = storage.get
      function storage.get(mbox, id)
         if id == 0 then
            table.remove(s.sessions[mbox], 1)
         end
         return get(mbox, id)
      end
   end },
   { "a handle that tells too short a length", "handle", function(storage, s)
      function storage.get(mbox, id)
         local text = s.of(mbox, id).text
         return { path = file_of(s, text), length = #text - (id == 1 and 5 or 0) }
      end
      storage.top = nil
   end },
   { "a handle that tells too great a length", "handle", function(storage, s)
      function storage.get(mbox, id)
         local text = s.of(mbox, id).text
         return { path = file_of(s, text), length = #text + (id == 1 and 2 or 0) }
      end
      storage.top = nil
   end },
   { "a handle that cannot be opened", "handle", function(storage, s)
      local get = storage.get
      function storage.get(mbox, id)
         return id == 2 and { path = "/nonexistent/message" } or get(mbox, id)
      end
      function storage.unlock(mbox)
         s.sessions[mbox] = nil
      end
   end },
   { "a handle that falls short", "handle", function(storage)
      local get = storage.get
      function storage.get(mbox, id)
         local text, given = get(mbox, id), false
         return id ~= 2 and text or function()
            if given then
               return nil, "the disk is gone"
            end
            given = true
            return text:sub(1, 10)
         end
      end
   end },
   { "a message that is altered", "content", function(_, s)
      local put = s.put
      function s.put(mbox, text)
         put(mbox, (text:gsub("\xc3\xbc", "ue")))
      end
   end },
   { "a message that loses its dots", "content", function(_, s)
      local put = s.put
      function s.put(mbox, text)
         put(mbox, (text:gsub("\n%.", "\n")))
      end
   end },
   { "a message whose long lines are cut", "content", function(_, s)
      local put = s.put
      function s.put(mbox, text)
         put(mbox, (text:gsub("[^\r\n]+", function(line) return line:sub(1, 998) end)))
      end
   end },
   { "a top that lies", "top", function(storage, s)
      function storage.top(mbox, id)
         return (s.of(mbox, id).text:gsub("Subject", "Object"))
      end
   end },
   { "a top that has too few lines", "top", function(storage, s)
      function storage.top(mbox, id)
         return (s.of(mbox, id).text:match("^.-\r?\n\r?\n"))
      end
   end },
   { "an answer of a wrong type", "answer", function(storage)
      function storage.size() return "12" end
   end },
   { "nil and a message", "answer", function(storage)
      function storage.uidl() return nil, "the index is locked" end
   end },
   { "a callback that raises", "raise", function(storage)
      function storage.top() error("no such column: body") end
   end },
   { "a dele that fails", "answer", function(storage)
      function storage.dele() return nil, "read-only file system" end
   end },
   { "a dele that deletes some and says so", "answer", function(storage)
      local dele = storage.dele
      function storage.dele(mbox, ids)
         dele(mbox, { ids[1] })
         return nil, "read-only file system", { table.unpack(ids, 2) }
      end
   end },
   { "a size that raises for one message", "raise", function(storage)
      local size = storage.size
      function storage.size(mbox, id)
         return id == 3 and error("no such file") or size(mbox, id)
      end
   end },
   { "a session that is lost for a number that no message has", "range", function(storage, s)
      local get = storage.get
      function storage.get(mbox, id)
         if id == 0 then
            s.sessions[mbox] = {}
         end
         return get(mbox, id)
      end
   end },
   { "a lock that fails", "answer", function(storage)
      function storage.lock() return nil, "no such table" end
   end },
   { "a put that delivers nothing", "put", function(_, s)
      function s.put() end
   end },
   { "a put that fails", "put", function(_, s)
      function s.put() return nil, "no space left" end
   end },
   { "a put that fails from the first session on", "put", function(storage, s)
      local lock, put, is_over = storage.lock, s.put, false
      function storage.lock(mbox)
         is_over = true
         return lock(mbox)
      end
      function s.put(mbox, text)
         if is_over then
            return nil, "it is locked"
         end
         return put(mbox, text)
      end
   end },
   { "a deletion of the wrong message where another session was faster", "gone", function(storage, s)
      without_lock(storage, s)
      function storage.dele(_, ids)
         for i = #ids, 1, -1 do
            if s.mail[ids[i]] then
               table.remove(s.mail, ids[i])
            end
         end
         return true
      end
   end },
}

describe("popd.check", function()
   local used

   before_each(function()
      popd.log_to(nil, "none")
      used = nil
   end)

   after_each(function()
      if used and used.dir then
         files.remove(used.dir)
      end
      client.finish()
   end)

   it("passes a storage that is right, and looks at every rule that it can", function()
      local ok, report = check(new())
      assert.equal("no rule is broken", tostring(report))
      assert.is_true(ok)
      local unchecked = {}
      for _, one in ipairs(report.rules) do
         if one.state == "unchecked" then
            unchecked[#unchecked + 1] = one.rule
         end
      end
      assert.same({ "scan", "gone" }, unchecked)
   end)

   it("passes a storage without a lock, and looks at what two sessions delete", function()
      local ok, report = check(new(without_lock))
      assert.is_true(ok, tostring(report))
      assert.equal("held", state(report, "gone"))
      assert.equal("unchecked", state(report, "lock"))
   end)

   it("passes a storage that tells all in one scan", function()
      local ok, report = check(new(function(storage, s)
         function storage.scan(mbox)
            local sizes, uids = {}, {}
            for i, message in ipairs(s.sessions[mbox]) do
               sizes[i], uids[i] = fs.octets_of(message.text), i % 2 == 0 and message.uid
            end
            return sizes, uids
         end
         storage.stat = nil
      end))
      assert.is_true(ok, tostring(report))
      assert.equal("held", state(report, "scan"))
   end)

   it("delivers behind a session that keeps deliverers out", function()
      local s = new()
      local put, late = s.put, 0
      function s.put(mbox, text)
         if s.sessions[mbox] then
            late = late + 1
            return nil, "it is locked"
         end
         return put(mbox, text)
      end
      local ok, report = check(s)
      assert.is_true(ok, tostring(report))
      assert.equal("held", state(report, "put"))
      assert.equal(1, late)
      assert.same({}, s.mail)
   end)

   it("takes away what it has put", function()
      local s = new()
      s.put("joe", "Subject: mine\n\nstays\n")
      assert.is_true((check(s)))
      assert.equal(1, #s.mail)
      assert.equal("Subject: mine\n\nstays\n", s.mail[1].text)
   end)

   for _, fault in ipairs(faults) do
      it("names " .. fault[1], function()
         used = new(fault[3])
         local ok, report = check(used)
         assert.is_nil(ok)
         assert.equal(fault[2], broken(report), tostring(report))
      end)
   end

   local function waits() client.never() end
   local function loops() while true do end end

   for _, case in ipairs {
      { "lock", "waits", waits }, { "stat", "waits", waits }, { "uidl", "waits", waits }, { "get", "waits", waits },
      { "dele", "waits", waits }, { "unlock", "waits", waits }, { "get", "loops", loops }, { "unlock", "loops", loops },
   } do
      it(("ends where %s %s for ever, and says so"):format(case[1], case[2]), function()
         local s = new()
         s.storage[case[1]] = case[3]
         local ok, report = check(s, { timeout = 0.05 })
         assert.is_nil(ok)
         assert.equal("hang", broken(report))
         assert.equal(case[1], report[1].call:match("^%l+"))
      end)
   end

   it("ends where the source of a message waits for ever, and says so", function()
      local s = new()
      function s.storage.get() return waits end
      local ok, report = check(s, { timeout = 0.05 })
      assert.is_nil(ok)
      assert.equal("hang", broken(report))
      assert.equal('get("joe", 1)', report[1].call)
   end)

   it("does not take a maildrop that the other user does not have for a lock", function()
      local s = new()
      local lock = s.storage.lock
      function s.storage.lock(mbox)
         if mbox == "ann" then
            return nil, "no maildrop of ann"
         end
         return lock(mbox)
      end
      local _, report = check(s)
      assert.equal("answer", broken(report))
   end)

   it("traces what is wrong to the call that gave it", function()
      local s = new(function(storage)
         local size = storage.size
         function storage.size(mbox, id)
            return size(mbox, id) + (id == 2 and 1 or 0)
         end
      end)
      local _, report = check(s)
      assert.equal('size("joe", 2)', report[1].call)
      assert.truthy(report[1].got:find("^%d+, but RETR 2 sends %d+ octets$"), report[1].got)
      assert.equal("size: " .. report[1].call .. ": " .. report[1].got, tostring(report[1]))
   end)

   it("tells what a callback raised", function()
      local s = new(function(storage)
         function storage.top() error("no such column: body") end
      end)
      local _, report = check(s)
      assert.truthy(tostring(report):find("no such column: body", 1, true))
   end)

   it("deletes nothing where it is told of no put", function()
      local s = new()
      for n = 1, 3 do
         s.put("joe", ("Subject: %d\n\nbody\n"):format(n))
      end
      local ok, report = check(s, { put = false })
      assert.equal("no rule is broken", tostring(report))
      assert.is_true(ok)
      assert.equal(3, #s.mail)
      assert.equal("unchecked", state(report, "dele-less"))
      assert.equal("held", state(report, "size"))
   end)

   it("deletes without put where it may", function()
      local s = new()
      for n = 1, 3 do
         s.put("joe", ("Subject: %d\n\nbody\n"):format(n))
      end
      local ok, report = check(s, { put = false, destructive = true })
      assert.is_true(ok, tostring(report))
      assert.equal(1, #s.mail)
      assert.equal("held", state(report, "dele-less"))
      assert.equal("held", state(report, "dele-more"))
   end)

   it("tells of what it could not check, and why", function()
      local s = new(function(storage, s)
         storage.lock, storage.dele = nil, nil
         s.sessions.joe = s.mail
      end)
      local ok, report = check(s, { put = false })
      assert.is_true(ok)
      for _, one in ipairs(report.rules) do
         assert.equal(one.state == "unchecked", one.why ~= nil)
      end
      assert.equal("unchecked", state(report, "lock"))
   end)

   it("finds nothing wrong with an empty maildrop", function()
      assert.is_true((check(new(), { put = false })))
   end)

   it("looks at the begin and the end of a large maildrop", function()
      local s = new()
      for n = 1, 200 do
         s.put("joe", ("Subject: %d\n\nbody\n"):format(n))
      end
      local ok, report = check(s)
      assert.is_true(ok, tostring(report))
      assert.equal(200, #s.mail)
   end)

   it("finds what it has put in the middle of a large maildrop", function()
      local s = new()
      for n = 1, 200 do
         s.put("joe", ("Subject: %d\n\nbody\n"):format(n))
      end
      local put = s.put
      function s.put(mbox, text)
         put(mbox, text)
         table.insert(s.mail, 100, table.remove(s.mail))
      end
      local ok, report = check(s)
      assert.is_true(ok, tostring(report))
      assert.equal(200, #s.mail)
   end)

   it("works inside a task, with a storage that waits", function()
      local s = new()
      for name, f in pairs(s.storage) do
         s.storage[name] = function(...)
            client.turn()
            return f(...)
         end
      end
      local done, ok, report
      popd.spawn(function()
         ok, report = check(s)
         done = true
      end)
      client.wait_for("the check", function() return done end)
      assert.is_true(ok, tostring(report))
   end)

   it("takes a storage that is one function", function()
      local s = new()
      local ok, report = popd.check(function(operation, ...)
         return s.storage[operation](...)
      end, { mbox = "joe", put = s.put })
      assert.is_true(ok, tostring(report))
   end)

   it("takes an mbox that is a table", function()
      local s, mbox = new(), {}
      local ok, report = popd.check(s.storage, { mbox = mbox, put = s.put })
      assert.is_true(ok, tostring(report))
   end)

   it("takes a function that gives each session an mbox of its own", function()
      local s = new()
      local lock = s.storage.lock
      function s.storage.lock(mbox)
         mbox.logins = mbox.logins + 1
         assert.equal(1, mbox.logins)
         local got = lock("joe")
         mbox.joe = got
         return got
      end
      for _, name in ipairs { "unlock", "renew", "stat", "size", "uidl", "get", "top", "dele" } do
         local f = s.storage[name]
         s.storage[name] = function(mbox, ...)
            assert.is_true(mbox.joe)
            return f("joe", ...)
         end
      end
      local ok, report = check(s, { mbox = function() return { logins = 0 } end, other = false })
      assert.is_true(ok, tostring(report))
   end)

   it("leaves nothing behind", function()
      check(new())
      collectgarbage()
      client.drain()
      assert.equal(0, core.count())
      assert.is_nil(popd.server("mock1"))
   end)

   -- arguments, what is said
   for what, case in pairs {
      ["no storage"] = { {}, { mbox = "joe" }, "option 'storage'" },
      ["no mbox"] = { new().storage, {}, "an mbox expected" },
      ["an option that does not exist"] = { new().storage, { mbox = "joe", putt = 1 }, "unknown option 'putt'" },
      ["a put that is no function"] = { new().storage, { mbox = "joe", put = 1 }, "option 'put': a function expected" },
      ["no time"] = { new().storage, { mbox = "joe", timeout = 0 }, "option 'timeout'" },
   } do
      it("raises at the caller's line for " .. what, function()
         local ok, err = pcall(function() popd.check(case[1], case[2]) end)
         assert.is_false(ok)
         assert.truthy(err:find("check_spec.lua:%d+: "), err)
         assert.truthy(err:find(case[3], 1, true), err)
      end)
   end
end)

describe("popd.check passes", function()
   local dir

   before_each(function()
      popd.log_to(nil, "none")
      dir = files.new_dir()
   end)

   after_each(function()
      files.remove(dir)
      client.finish()
   end)

   local function passes(storage, put)
      local ok, report = popd.check(storage, { mbox = "joe", other = "ann", put = put })
      assert.is_true(ok, tostring(report))
      for _, rule in ipairs {
         "size", "ids", "uid-stable", "uid-reused", "lock", "lock-other", "dele-less", "dele-more",
      } do
         assert.equal("held", state(report, rule), rule)
      end
   end

   it("popd.memory", function()
      local mail = { joe = {}, ann = {} }
      passes(require("popd.memory").new(mail), function(mbox, text)
         table.insert(mail[mbox], text)
      end)
   end)

   local function deliver_maildir(number, mbox, text)
      files.run("mkdir -p %s/new %s/cur %s/tmp", dir .. "/" .. mbox, dir .. "/" .. mbox, dir .. "/" .. mbox)
      return fs.write(("%s/%s/new/17000000%02d.x%d.host"):format(dir, mbox, number, number), text)
   end

   it("popd.maildir", function()
      local n = 0
      passes(require("popd.maildir").new { root = dir .. "/%s" }, function(mbox, text)
         n = n + 1
         return deliver_maildir(n, mbox, text)
      end)
   end)

   it("popd.maildir where other programs take messages to cur meanwhile", function()
      local n = 0
      passes(require("popd.maildir").new { root = dir .. "/%s" }, function(mbox, text)
         n = n + 1
         local ok, err = deliver_maildir(n, mbox, text)
         local box = dir .. "/" .. mbox
         files.run("for f in %s/new/*; do mv $f %s/cur/$(basename $f):2,S; done", box, box)
         return ok, err
      end)
   end)

   it("popd.dbox", function()
      local box, n = require("popd.dbox").new { base = dir }, 0
      assert(box.add("joe"))
      assert(box.add("ann"))
      passes(box, function(mbox, text)
         n = n + 1
         return fs.write(("%s/%s/%d"):format(dir, mbox, n), text)
      end)
   end)
end)
