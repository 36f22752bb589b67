--- The Maildir that Postfix, Exim, Dovecot or procmail deliver into.
--
-- Messages are the regular files of `new` and `cur`; nothing is moved or
-- renamed, and only a session's QUIT deletes.  A Maildir that does not exist
-- yet is an empty maildrop; folders (Maildir++) are not shown.
--
-- A session's messages are fixed when it locks.  Another program may rename
-- one meanwhile (from `new` to `cur`, or to other flags): it is found again by
-- its base name, which is what Maildir keeps.  A message's unique-id is that
-- base name (a SHA-256 of it where it has more than 70 octets or odd ones).
-- Two messages of one base name, which no deliverer should make, have ids that
-- also depend on their files.  The option `uidl` has the unique-ids be those of
-- another server, and the messages in its order.
--
-- The lock is a byte in one lock file for the whole root, so it needs no
-- descriptor for each maildrop, keeps out every process that uses this back
-- end, and dies with its holder.
-- @module popd.maildir
-- @usage
-- popd.new { storage = maildir.new { root = "/var/vmail/%d/%n" } }
local core = require("popd.core")
local fs = require("popd.fs")
local lists = require("popd.lists")
local locks = require("popd.lock")
local maildirdeletion = require("popd.maildirdeletion")
local maildirsession = require("popd.maildirsession")
local roots = require("popd.root")
local uidl = require("popd.uidl")

local mail = core.mail

local with_path, known_octets, octets = maildirsession.with_path, maildirsession.known_octets, maildirsession.octets
local open, close = maildirsession.open, maildirsession.close

local maildir = {}

local OPTIONS = {
   root = "string", lock = "string", days = "number", dele = "string", newest = "number", order = "string",
   uidl = "style", tidy = "boolean", wait = "number", take_over = "number",
}

local ORDERS = { name = true, mtime = true }

local DAY = 86400
local TMP_AGE = 36 * 3600 -- what no delivery can still be at

local function check_choices(options)
   local days, dele, newest, order = options.days, options.dele, options.newest, options.order
   if dele and dele ~= "unlink" and dele ~= "flag" and not dele:find("^%.[^%./%c][^/%c]*$") then
      error("maildir.new: option 'dele' is \"unlink\", \"flag\", or a folder such as \".Trash\"", 4)
   elseif newest and (math.type(newest) ~= "integer" or newest < 1) then
      error("maildir.new: option 'newest' takes a number of messages", 4)
   elseif days and not (days > 0 and days < math.huge) then
      error("maildir.new: option 'days' takes a number of days", 4)
   elseif order and not ORDERS[order] then
      error("maildir.new: option 'order' is \"name\" or \"mtime\"", 4)
   end
end

local function check(options)
   if type(options) ~= "table" then
      error('maildir.new: a table of options expected, such as { root = "/var/vmail/%s" }', 3)
   end
   for name, value in pairs(options) do
      if not OPTIONS[name] then
         error(("maildir.new: unknown option '%s'; there are: lock, root, uidl, days, dele, newest, order, "
            .. "tidy, wait, take_over"):format(tostring(name)), 3)
      elseif type(value) ~= OPTIONS[name] and name ~= "uidl" then
         error(("maildir.new: option '%s' takes a %s"):format(name, OPTIONS[name]), 3)
      end
   end
   if not options.root or options.root == "" then
      error("maildir.new: option 'root' is missing", 3)
   end
   local wrong = roots.fault(options.root)
      or options.lock and options.lock:find("\0") and "a path cannot contain NUL" or locks.fault(options)
   if wrong then
      error("maildir.new: " .. wrong, 3)
   end
   check_choices(options)
end

-- Locks a Maildir by what it is, not by its name: two names of one directory
-- exclude each other.  One that does not exist is locked by its name.
local function take_lock(path, dir)
   for _ = 1, 10 do
      local device, inode, code = mail.identity(dir)
      if not device and code ~= "ENOENT" then
         return nil, inode
      end
      local lock, err
      lock, err, code = fs.lock(path, device and device .. ":" .. inode or dir)
      if not lock then
         return lock, err, code
      end
      local device_now, inode_now = mail.identity(dir)
      if device == device_now and (inode == inode_now or not device) then
         return lock
      end
      lock:release()
   end
   return nil, ("lock %s: the directory is replaced again and again"):format(dir)
end

--- Makes a storage back end.
-- @tparam table options `root`: the path of a Maildir, where `%s` stands for
-- the mbox, `%n` and `%d` for its parts in front of and behind the last `@`,
-- and `%%` for `%`; an mbox with a part that is empty, starts with a dot, or
-- holds `/` or a control octet is a fault.  `lock`: the path of the lock file;
-- absent: `.popd-lock` in the fixed directory at the start of `root`.
-- `dele`: what becomes of deleted messages: `"unlink"` (default); `"flag"`, the
-- flag T, with which they are not shown any more; or a folder of the Maildir,
-- such as `".Trash"`, which is made where there is none.  `newest`: show so many
-- messages, the last ones; `days`: show those that were delivered in the last so
-- many days.  `order`: `"name"` (default), by the delivery time that names start
-- with, or `"mtime"`, by that of the files; `days` goes by the same time;
-- `uidl`: what the unique-ids are, a style or a table as `popd.uidl` takes it, with
-- `%s`, `%n` and `%d` in its `file` too; absent: `"name"`.  `tidy = false`: nothing is kept in
-- the Maildir for the next session, neither sizes nor unique-ids, and what is old in `tmp` stays;
-- `wait` and `take_over`: seconds, the policies of `popd.lock`
-- @treturn table the storage functions
-- @usage maildir.new { root = "/var/vmail/%d/%n/Maildir", lock = "/run/popd/maildir.lock" }
-- @usage maildir.new { root = "/var/vmail/%s", uidl = "dovecot" } -- as Dovecot told them
-- @usage maildir.new { root = "/home/joe/Maildir" } -- one for all
-- @usage maildir.new { root = "/var/vmail/%s", dele = ".Trash", newest = 1000 }
function maildir.new(options)
   check(options)
   local path_of, fixed = roots.expander(options.root), roots.fixed_part(options.root)
   local lock_path = options.lock or fixed .. "/.popd-lock"
   local scheme = uidl.new(options.uidl, 2)
   local list_path = type(options.uidl) == "table" and options.uidl.file or nil
   local tidy = options.tidy ~= false
   local sessions, storage = {}, {}

   local function session_of(mbox)
      local session = sessions[mbox]
      if not session then
         error(("maildrop '%s' is not locked"):format(tostring(mbox)), 3)
      end
      return session
   end

   local function check_id(session, id)
      if math.type(id) ~= "integer" or id < 1 or id > mail.count(session.list) then
         error(("no message %s"):format(tostring(id)), 3)
      end
   end

   -- Once a day for each Maildir, as far as this process remembers.
   local swept, today = {}, 0

   local function sweep(dir)
      local day = os.time() // DAY
      if day ~= today then
         swept, today = {}, day
      end
      if not swept[dir] then
         swept[dir] = true
         mail.sweep(dir .. "/tmp", TMP_AGE)
      end
   end

   -- How many are shown may differ between storages, and what is shown by their age changes with time: such lists
   -- are not for the shelf.
   local is_kept = not (options.newest or options.days or options.order == "mtime")
   local Session = maildirsession.class_of {
      dele = options.dele or "unlink", marks = options.dele == "flag" and "\0T" or "",
   }

   -- Where the unique-ids are the names.
   local function prepare_plain(session)
      if is_kept and maildirsession.reopen(session) then
         return true
      end
      local ok, err = open(session, options, {})
      if ok then
         if is_kept then
            session.since = false -- the shelf does not know the list yet
         end
         maildirsession.identify_twins(session)
      end
      return ok, err
   end

   -- Fixes the session's messages, their order and their unique-ids.
   local function prepare(session, mbox)
      if scheme:is_plain(session.dir) then
         return prepare_plain(session)
      end
      local file, known, ok, err
      if list_path then
         file, err = roots.expand(list_path, mbox)
      end
      if not err then
         known, err = scheme:read(session.dir, file)
      end
      if known then
         ok, err = open(session, options, known)
      end
      if ok then
         maildirsession.identify_all(session, known, scheme)
      end
      return ok, err
   end

   local function remember_ids(session)
      scheme:remember(session.dir, session.seen, session.names, session.ids, session.gone)
   end

   -- Locks the Maildir and lists it.
   local function claim(session, mbox)
      local lock, err, code = take_lock(lock_path, session.dir)
      if not lock then
         -- A root that is itself a Maildir yet to come has no room for a lock
         -- file, and no message to protect.
         if code == "ENOENT" and fixed == session.dir and not options.lock then
            local ok, why = open(session, options, {})
            session.links, session.twins = {}, {}
            return ok and (mail.keep_last(session.list, 0) or true) or ok, why
         end
         return lock, err
      end
      session.lock = lock
      if tidy then
         sweep(session.dir)
      end
      return prepare(session, mbox)
   end

   -- One try to claim a maildrop.
   local function try(mbox, dir, conn)
      if sessions[mbox] then
         local holder = sessions[mbox].holder
         return false, holder and locks.holder(holder)
      end
      local session = setmetatable({
         holder = options.take_over and locks.watch { path = dir, conn = conn } or nil,
         dir = dir, lock = false, list = false,
      }, Session)
      sessions[mbox] = session
      local done, ok, err = pcall(claim, session, mbox)
      if not done or not ok then
         storage.unlock(mbox)
      end
      if not done then
         error(ok, 0)
      end
      return ok, ok == nil and err or nil
   end

   --- Claims a maildrop for one session and fixes its messages.
   -- @string mbox
   -- @param[opt] conn the connection that it is for
   -- @treturn boolean false while another session has it, in any process
   -- @treturn table which, of one of this process
   function storage.lock(mbox, conn)
      local dir, why = path_of(mbox)
      if not dir then
         return nil, why
      end
      local ok
      ok, why = locks.insist(options, try, mbox, dir, conn)
      if why == nil then
         return ok
      end
      return ok, why
   end

   if options.take_over then
      --- Looks whether the session is idle.
      -- @string mbox
      -- @treturn boolean true
      function storage.renew(mbox)
         locks.notice(session_of(mbox).holder)
         return true
      end
   end

   --- Gives it back.
   -- @string mbox
   function storage.unlock(mbox)
      local session = sessions[mbox]
      sessions[mbox] = nil
      if not session then
         return
      end
      local ok, err = true, nil
      if session.lock then
         if tidy and session.ids then
            ok, err = pcall(remember_ids, session)
         end
         session.lock:release()
      end
      if session.list then
         if tidy then
            maildirsession.remember(session)
         end
         close(session)
      end
      if not ok then
         error(err, 0)
      end
   end

   --- Counts the messages.
   -- @string mbox
   -- @treturn integer
   function storage.stat(mbox)
      return mail.count(session_of(mbox).list)
   end

   --- Sizes, where they are known without reading (others are false), and
   -- unique-ids.
   -- @string mbox
   -- @treturn table sizes
   -- @treturn table unique-ids
   function storage.scan(mbox)
      local list, overrides = session_of(mbox).list, session_of(mbox).octets
      local sizes = mail.sizes(list)
      for id, n in pairs(overrides) do
         sizes[id] = n
      end
      return sizes, mail.uids(list)
   end

   lists.offer(storage.scan, function(mbox)
      return session_of(mbox).list
   end)

   --- Octets as sent, of one message or of all.
   -- @string mbox
   -- @int[opt] id
   -- @treturn integer
   function storage.size(mbox, id)
      local session = session_of(mbox)
      if id then
         check_id(session, id)
         return octets(session, id)
      end
      local total = mail.total(session.list)
      if total then
         return total
      end
      total = 0
      for each = 1, mail.count(session.list) do
         total = total + octets(session, each)
      end
      return total
   end

   --- A message.
   -- @string mbox
   -- @int id
   -- @treturn table `{ path = }`, or nil: another program has removed it
   function storage.get(mbox, id)
      local session = session_of(mbox)
      check_id(session, id)
      local path
      local found, err = with_path(session, id, function(candidate)
         path = candidate
         return fs.size(candidate)
      end)
      local _, stored = known_octets(session, id)
      if found and stored and stored ~= found then
         mail.forget(session.list, id)
         return nil, path .. ": it has changed since its size was told"
      elseif found then
         return { path = path, follow = false }
      elseif found == nil then
         return nil, err
      end
      return nil
   end

   -- What a script's own `lock` or `scan` has made impossible, `get` complains of.
   lists.offer(storage.get, function(mbox)
      local session = sessions[mbox]
      if session then
         return session.list, session.dir
      end
   end)

   --- A message's unique-id.
   -- @string mbox
   -- @int id
   -- @treturn string
   function storage.uidl(mbox, id)
      local session = session_of(mbox)
      check_id(session, id)
      return mail.uid(session.list, id)
   end

   --- Deletes messages; one that another program has removed counts as deleted.
   -- @string mbox
   -- @tparam table ids
   -- @treturn boolean true, or nil, the first reason and the ids that are still there
   function storage.dele(mbox, ids)
      local session = session_of(mbox)
      for _, id in ipairs(ids) do
         check_id(session, id)
      end
      return maildirdeletion.delete(session, ids)
   end

   return storage
end

return maildir
