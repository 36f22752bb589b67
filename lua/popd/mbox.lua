--- The mbox spool files that MTAs deliver into: one file a maildrop.
--
-- A session locks the file as other mail programs do, so that nobody delivers
-- into it or changes it until the session ends; then messages are deleted by a
-- rewrite that no crash can make lose mail (`popd.mboxjournal`).  Otherwise the file is never
-- altered, but by `deliver`, which adds to its end (`popd.mboxdelivery`).  A file that does not
-- exist is an empty maildrop.
--
-- A message starts at a line `From …` with a date, which is no part of it, nor is
-- one blank line before the next.  A message's unique-id is a digest of that
-- line, of the header without the fields that mail programs rewrite in place
-- (Status, X-Status, X-UID, X-UIDL, X-Keywords, X-IMAP, X-IMAPbase,
-- Content-Length, Lines and Mozilla's), and of the body: it stays whatever
-- happens to other messages.  Of several with the same, which are the same message then, the
-- second in the file has `.2` added, and so on.
-- @module popd.mbox
-- @usage
-- popd.new { storage = mbox.new { root = "/var/mail/%s" } }
local core = require("popd.core")
local delivery = require("popd.delivery")
local fs = require("popd.fs")
local journal = require("popd.mboxjournal")
local lock = require("popd.lock")
local mboxdelivery = require("popd.mboxdelivery")
local root = require("popd.root")

local mbox = {}

local TYPES = { root = "string", format = "string", lock = "table", x_uidl = "boolean" }
local FORMATS = { mboxo = true, mboxrd = true, mboxcl = true }

local PIECE = 65536 -- octets that are read at once
local SLICE = 2000 -- messages that are told between two turns of others
local WINDOW = 16384 -- octets at the end of what was scanned, by which it is known again
local QUOTES = 1000 -- as in core/mboxscan.h
local PAUSE_LEAST, PAUSE_MOST = 0.001, 0.1 -- seconds between two looks whether a deletion is done
local KNOWN_FILES, KNOWN_MESSAGES = 1000, 200000 -- what is remembered of earlier sessions

local CHANGED = "%s: it was changed although it is locked"

-- Options -------------------------------------------------------------------

local function check(options)
   if type(options) ~= "table" then
      error('mbox.new: a table of options expected, such as { root = "/var/mail/%s" }', 3)
   end
   for name, value in pairs(options) do
      if not TYPES[name] then
         error(("mbox.new: unknown option '%s'; there are: format, lock, root, x_uidl"):format(tostring(name)), 3)
      elseif type(value) ~= TYPES[name] then
         error(("mbox.new: option '%s' takes a %s"):format(name, TYPES[name]), 3)
      end
   end
   if not options.root or options.root == "" then
      error("mbox.new: option 'root' is missing", 3)
   elseif root.fault(options.root) then
      error("mbox.new: " .. root.fault(options.root), 3)
   elseif options.format and not FORMATS[options.format] then
      error(("mbox.new: unknown format '%s'; there are: mboxcl, mboxo, mboxrd"):format(options.format), 3)
   end
end

-- The locks of sessions, and those of deliveries, for which nobody's session ends.
local function locks_of(options)
   local wanted = options.lock or { "fcntl", "dotlock" }
   local ok, locks = pcall(lock.new, wanted)
   if not ok then
      error("mbox.new: " .. locks, 3)
   end
   local patient = {}
   for name, value in pairs(wanted) do
      patient[name] = name ~= "take_over" and value or nil
   end
   return locks, lock.new(patient)
end

-- What is known from earlier sessions ---------------------------------------

-- By path: an index, and how the file is told from another one.  A session
-- takes its own away, and gives it back when it ends.
local Known = {}
Known.__index = Known

local function new_known()
   return setmetatable({ by_path = {}, order = {}, messages = 0 }, Known)
end

function Known:take(path)
   local entry = self.by_path[path]
   if not entry then
      return nil
   end
   self.by_path[path] = nil
   self.messages = self.messages - entry.count
   for i, other in ipairs(self.order) do
      if other == path then
         table.remove(self.order, i)
         break
      end
   end
   return entry
end

function Known:put(path, entry)
   self:take(path)
   entry.count = entry.index:count()
   self.by_path[path] = entry
   self.messages = self.messages + entry.count
   table.insert(self.order, path)
   while self.messages > KNOWN_MESSAGES or #self.order > KNOWN_FILES do
      self:take(self.order[1])
   end
end

local function window(file, size)
   local n = math.min(WINDOW, size)
   local text = file:read(size - n, n)
   return text and #text == n and fs.sha256(text) or nil
end

-- Whether the file still begins with what was scanned.
local function is_same(entry, session)
   local file, size, mtime = session.file, session.size, session.mtime
   return entry.dev == session.dev and entry.ino == session.ino
      and (size > entry.size or size == entry.size and (mtime == entry.mtime or entry.open))
      and window(file, entry.size) == entry.window
end

-- Opening -------------------------------------------------------------------

-- Scans what is not known yet; a slice at a time, in a thread.
local function scan_on(session)
   local done, err
   repeat
      done, err = session.index:scan(session.file, session.size)
   until done ~= false
   return done, err
end

local function warn_of_garbage(session)
   local _, _, outside = session.index:count()
   local text = outside > 0 and session.file:read(0, math.min(outside, PIECE))
   if text and text:find("%S") then
      core.log("warning", "an mbox file does not begin with a message: what comes before the first is not served", {
         path = session.path, octets = outside,
      })
   end
end

local function load_index(session, known, format)
   local entry = known:take(session.path)
   if entry and is_same(entry, session) then
      session.index = entry.index
      if not entry.open and session.size == entry.size then
         return true
      end
      session.index:cut(math.max(session.index:count() - 1, 0)) -- its end may not have been the end
   else
      session.index = core.mbox_index(format)
   end
   local ok, err = scan_on(session)
   if ok then
      warn_of_garbage(session)
   end
   return ok, err
end

local function open(session, known, format)
   local ok, err = journal.recover(session.file, session.path)
   if not ok then
      return nil, err
   end
   session.size, session.mtime, session.dev, session.ino = session.file:stat()
   if not session.size then
      session.index = core.mbox_index(format) -- of a file that does not exist
      return not session.mtime or nil, session.mtime
   end
   return load_index(session, known, format)
end

-- The index is of use to the next session, as far as it goes.
local function remember(session, known)
   if not session.size or session.failed then
      return
   end
   local entry = { index = session.index, dev = session.dev, ino = session.ino, open = session.cut ~= nil }
   entry.size, entry.mtime = session.cut or session.size, session.mtime
   entry.window = window(session.file, entry.size)
   if entry.window then
      known:put(session.path, entry)
   end
end

-- Reading -------------------------------------------------------------------

-- Whether somebody has changed the file, but for mail behind its end.
local function is_changed(session)
   local size, mtime = session.file:stat()
   return not size or size < session.size or size == session.size and mtime ~= session.mtime
      or not session.file:is(session.path)
end

local function unquote(quotes)
   return #quotes <= QUOTES and "\n" .. quotes:sub(2) .. "From " or nil
end

-- A message of an mboxrd file whose body has lines with a quote too many.
local function without_quotes(session, head, body, stop)
   local at, at_line = head, true
   return function()
      if at >= stop then
         return nil
      end
      local limit = at < body and body or stop
      local text, err = session.file:read(at, math.min(PIECE, limit - at))
      if not text or text == "" then
         return nil, err or CHANGED:format(session.path)
      elseif at < body then
         at = at + #text
         return text
      end
      if at + #text < stop then -- a line that is cut could not be told
         text = text:sub(1, text:find("\n[^\n]*$") or -1)
      end
      at = at + #text
      local from_line = at_line
      at_line = text:sub(-1) == "\n"
      text = (from_line and "\n" or "") .. text
      return (text:gsub("\n(>+)From ", unquote):sub(from_line and 2 or 1))
   end
end

-- Unique-ids as fields of the messages tell them.  One that is another's too is
-- no unique-id: then the digest is taken.
local function uids_of_fields(session, uids)
   local seen = {}
   for _, uid in ipairs(uids) do
      seen[uid] = true
   end
   for id = 1, #uids do
      local at, n = session.index:uidl(id)
      local field = at and session.file:read(at, n)
      if field and #field == n and field:find("^[!-~]+$") and not seen[field] then
         uids[id], seen[field] = field, true
      end
      if id % SLICE == 0 then
         core.sleep(0)
      end
   end
end

local function list(session, fill)
   local count, values = session.index:count(), {}
   for from = 1, count, SLICE do
      fill(session.index, values, from, math.min(from + SLICE - 1, count))
      if from + SLICE <= count then
         core.sleep(0)
      end
   end
   return values
end

local function uids_of(session, by_field)
   if not session.uids then
      session.uids = list(session, session.index.uids)
      if by_field then
         uids_of_fields(session, session.uids)
      end
   end
   return session.uids
end

-- Deleting ------------------------------------------------------------------

-- What stays behind the first message that goes: offset, octets, …
local function kept_ranges(session, ids, size)
   local ranges, at = {}, session.index:extent(ids[1])
   local function keep_to(stop)
      if stop > at then
         ranges[#ranges + 1], ranges[#ranges + 2] = at, stop - at
      end
   end
   for _, id in ipairs(ids) do
      local start, next_start = session.index:extent(id)
      keep_to(start)
      at = next_start
   end
   keep_to(size) -- also what came meanwhile from somebody who does not lock
   return ranges
end

local function delete(session, ids)
   if not session.held:check() then
      return nil, session.path .. ": the lock is lost"
   elseif is_changed(session) then
      return nil, CHANGED:format(session.path)
   end
   local size = session.file:stat()
   local first, ranges = session.index:extent(ids[1]), kept_ranges(session, ids, size)
   session.index:cut(ids[1] - 1)
   session.cut, session.uids = first, nil
   return journal.rewrite(session.file, session.path, first, ranges, size)
end

-- What a pcall has returned, packed: results, or the error.
local function pass_on(results)
   if not results[1] then
      error(results[2], 0)
   end
   return table.unpack(results, 2, results.n)
end

-- Whoever waited for it may be gone: then the lock stays until it is done.
local function delete_busy(session, ids)
   local results = table.pack(pcall(delete, session, ids))
   session.busy = false
   if session.left then
      session.held:release()
   end
   return pass_on(results)
end

-- Calls f in a task of its own and waits for it.  What was begun must come to its
-- end: no deadline counts here.
local function apart(f, ...)
   if core.party() == 0 then -- a main chunk has no deadline
      return f(...)
   end
   local results, args, pause = nil, table.pack(...), PAUSE_LEAST
   core.spawn(function()
      results = table.pack(pcall(f, table.unpack(args, 1, args.n)))
   end)
   while not results do
      core.pause(pause)
      pause = math.min(pause * 1.5, PAUSE_MOST)
   end
   return pass_on(results)
end

-- Delivering ----------------------------------------------------------------

-- The path that a message may go to; nil and why there is none.
local function path_for(pattern, name)
   local path, why = root.expand(pattern, name)
   if path and path:find("%.lock$") then -- it would lock, or be removed as one that was left behind
      return nil, ("maildrop %q: its file would be another one's lock"):format(name)
   end
   return path, why
end

-- Makes a file that is absent, for its owner alone.
local function make_file(pattern, path)
   local ok, err, code = delivery.make_parent(pattern, path)
   if not ok then
      return delivery.fail(err, code)
   end
   local file
   file, err, code = core.spool(path, "new")
   if file then
      file:close()
      return true
   elseif code ~= "EEXIST" then
      return delivery.fail(err, code)
   end
   local st = fs.stat(path)
   if st and st.type ~= "file" then
      return nil, path .. ": not a regular file", "CANTCREAT"
   end
   return true
end

local function tell_locked(path, holder)
   return ("%s: it is locked by %s"):format(path,
      holder.process and ("process %d"):format(holder.process) or "another program")
end

-- Locks the file, which is there then: another program may remove an empty one meanwhile.
local function take(locks, pattern, path)
   for _ = 1, 10 do
      local ok, err, sort = make_file(pattern, path)
      if not ok then
         return nil, err, sort
      end
      local held, holder, code = locks:take(path)
      if held == false then
         return nil, tell_locked(path, holder)
      elseif not held then
         return delivery.fail(holder, code)
      elseif held.file:stat() then
         return held
      end
      held:release()
   end
   return nil, path .. ": it is removed again and again"
end

local function put(held, text)
   local lease <close> = held
   local ok, err = journal.recover(lease.file, lease.path)
   if not ok then
      return nil, err
   end
   return mboxdelivery.append(lease.file, lease.path, text)
end

--- Makes a storage back end.
-- @tparam table options `root`: the path of an mbox file, where `%s` stands for
-- the mbox, `%n` and `%d` for its parts in front of and behind the last `@`, and
-- `%%` for `%`; an mbox with a part that is empty, starts with a dot, or holds
-- `/` or a control octet is a fault.  `format`: `"mboxo"` (as it stands: whether
-- the writer made `>From ` of `From ` nothing tells; the default), `"mboxrd"` (of a body's
-- lines with one or more `>` before `From ` one `>` is taken off), or `"mboxcl"`
-- (Content-Length tells where a body ends, if a `From ` line or the end is there).
-- `lock`: as for `popd.lock.new`; absent: `{ "fcntl", "dotlock" }`.  `x_uidl`: true: an
-- X-UIDL field is the message's unique-id
-- @treturn table the storage functions, and `deliver`
-- @usage mbox.new { root = "/var/mail/%n", lock = { "fcntl", "dotlock", wait = 10, take_over = 120 } }
function mbox.new(options)
   check(options)
   local format, locks, locks_to_deliver = options.format or "mboxo", locks_of(options)
   local sessions, known, storage = {}, new_known(), {}

   local function session_of(name)
      local session = sessions[name]
      if not session then
         error(("maildrop '%s' is not locked"):format(tostring(name)), 3)
      end
      return session
   end

   local function check_id(session, id)
      if math.type(id) ~= "integer" or id < 1 or id > session.index:count() then
         error(("no message %s"):format(tostring(id)), 3)
      end
   end

   --- Locks the file and finds its messages.
   -- @string name
   -- @param[opt] conn the connection that it is for
   -- @treturn boolean false while somebody else has the lock
   -- @treturn table who, as `popd.lock` told it
   function storage.lock(name, conn)
      local path, why = root.expand(options.root, name)
      if not path then
         return nil, why
      end
      local held, holder = locks:take(path, conn)
      if held == false then
         return false, holder
      elseif not held then
         return nil, holder
      end
      local session = { held = held, file = held.file, path = path }
      local done, ok, err = pcall(open, session, known, format)
      if not (done and ok) then
         held:release()
         if not done then
            error(ok, 0)
         end
         return nil, err
      end
      sessions[name] = session
      return true
   end

   --- Gives it back; once a deletion that is under way has ended.
   -- @string name
   function storage.unlock(name)
      local session = sessions[name]
      sessions[name] = nil
      if not session then
         return
      elseif session.busy then
         session.left = true
         return
      end
      remember(session, known)
      session.held:release()
   end

   --- Looks that the lock is held still, and shows others that it is.
   -- @string name
   -- @treturn boolean
   function storage.renew(name)
      return session_of(name).held:renew()
   end

   --- Counts the messages.
   -- @string name
   -- @treturn integer
   function storage.stat(name)
      return (session_of(name).index:count())
   end

   --- Sizes and unique-ids.
   -- @string name
   -- @treturn table sizes
   -- @treturn table unique-ids
   function storage.scan(name)
      local session = session_of(name)
      local sizes = list(session, session.index.octets)
      return sizes, uids_of(session, options.x_uidl)
   end

   --- Octets as sent, of one message or of all.
   -- @string name
   -- @int[opt] id
   -- @treturn integer
   function storage.size(name, id)
      local session = session_of(name)
      if not id then
         return (select(2, session.index:count()))
      end
      check_id(session, id)
      return (select(4, session.index:mail(id)))
   end

   --- A message.
   -- @string name
   -- @int id
   -- @return a part of the file; or a function that reads it
   function storage.get(name, id)
      local session = session_of(name)
      check_id(session, id)
      if is_changed(session) then
         return nil, CHANGED:format(session.path)
      end
      local head, body, stop, _, stuffed = session.index:mail(id)
      if stuffed then
         return without_quotes(session, head, body, stop)
      end
      return { path = session.path, offset = head, length = stop - head, follow = false }
   end

   --- A message's unique-id.
   -- @string name
   -- @int id
   -- @treturn string
   function storage.uidl(name, id)
      local session = session_of(name)
      check_id(session, id)
      return options.x_uidl and uids_of(session, true)[id] or session.index:uid(id)
   end

   --- Deletes messages: all of them, or none.
   -- @string name
   -- @tparam table ids ascending
   -- @treturn boolean true, or nil, the reason and the ids that are still there
   function storage.dele(name, ids)
      local session = session_of(name)
      for _, id in ipairs(ids) do
         check_id(session, id)
      end
      if #ids == 0 then
         return true
      end
      session.busy = true
      local ok, err = apart(delete_busy, session, ids)
      if ok then
         return true
      end
      session.failed = true
      return nil, err, ids
   end

   --- Delivers a message, as `popd.delivery` tells: at the file's end, which is made where it is
   -- absent.  Waits for its lock as the option `lock` says; while a session has it, mail has to come later.
   -- @string name
   -- @param source a message handle
   -- @tparam[opt] table how `from`, `to`
   -- @treturn boolean true, or nil, the reason and the sort of failure
   function storage.deliver(name, source, how)
      local path, why = path_for(options.root, name)
      if not path then
         return nil, why, "NOUSER"
      end
      local message, err, sort = delivery.read(source, how)
      if not message then
         return nil, err, sort
      end
      local text = mboxdelivery.text(message, format, os.time())
      local held
      held, err, sort = take(locks_to_deliver, options.root, path)
      if not held then
         return nil, err, sort
      end
      return apart(put, held, text)
   end

   return storage
end

return mbox
