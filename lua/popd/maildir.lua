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
local roots = require("popd.root")
local shelf = require("popd.shelf")
local uidl = require("popd.uidl")

local mail = core.mail

local maildir = {}

local OPTIONS = {
   root = "string", lock = "string", days = "number", dele = "string", newest = "number", order = "string",
   uidl = "style", tidy = "boolean", wait = "number", take_over = "number",
}

local ORDERS = { name = true, mtime = true }

local SUBDIRS = { "new", "cur" }

-- Changes that one thread makes at a time.
local BATCH = 256

-- An index is written when it saves the next session so much.
local LESSONS, LESSONS_OCTETS = 1000, 1 << 20

-- Seconds of a login for a first look at very many files on a slow disk: what is
-- left then is looked at when it is asked for.
local PATIENCE = 5

local DAY = 86400
local TMP_AGE = 36 * 3600 -- what no delivery can still be at

-- Whose messages Maildir++ does not count.
local TRASH = ".Trash"

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

-- What is noted of single messages, by number: made when it is asked for, since
-- most sessions rest without.
local NOBODY = {}
local NOTES = { files = true, octets = true, stored = true, links = true, twins = true, gone = true, unsure = true }

-- The metatable of a storage's sessions; `shared` has what is the same for all.
local function class_of(shared)
   return {
      __index = function(session, name)
         if NOTES[name] then
            session[name] = {}
            return rawget(session, name)
         end
         return shared[name]
      end,
   }
end

local function base_of(file)
   return file:match("^%l+/([^:]*)")
end

local function flags_of(file)
   return file:match(":2,([^:]*)$") or ""
end

-- Tells files of one base name apart: by inode and time, which renaming keeps.
local function identify(dir, file)
   local st, err, code = fs.stat(dir .. "/" .. file)
   if st then
      return ("%d:%d:%.9f"):format(st.dev, st.ino, st.mtime)
   end
   if code == "ENOENT" then
      return false
   end
   return nil, err
end

-- Sorts files of one base name into messages: a list of { id =, names }.
-- A message that is being moved may have two names for a moment.
local function tell_apart(dir, same)
   local messages, by_id = {}, {}
   for _, file in ipairs(same) do
      local id, err = identify(dir, file)
      if id == nil then
         return nil, err
      end
      if id and not by_id[id] then
         by_id[id] = { id = id }
         messages[#messages + 1] = by_id[id]
      end
      if id then
         table.insert(by_id[id], file)
      end
   end
   return messages
end

-- Sorts the listed files of one base name into messages.  `kept` gets those that
-- stand for a message, by number: its names, and what tells it from its twins;
-- `dropped` the numbers of the others.
local function sort_same(session, numbers, kept, dropped)
   local files, number_of = {}, {}
   for i, number in ipairs(numbers) do
      files[i] = mail.file(session.list, number)
      number_of[files[i]] = number
   end
   local messages, err = tell_apart(session.dir, files)
   if not messages then
      return nil, err
   end
   local stays = {}
   for _, message in ipairs(messages) do
      local number = number_of[message[#message]]
      stays[number] = true
      kept[number] = { names = message[2] and message, twin = messages[2] and message.id }
   end
   for _, number in ipairs(numbers) do
      if not stays[number] then
         dropped[#dropped + 1] = number
      end
   end
   return true
end

-- How many of an ascending list are below a number.
local function count_below(list, number)
   local from, to = 1, #list + 1
   while from < to do
      local mid = (from + to) // 2
      if list[mid] < number then
         from = mid + 1
      else
         to = mid
      end
   end
   return from - 1
end

-- Takes dropped ones off the list.  Returns how a number changes by that; nil:
-- it is not shown.
local function narrow(session, dropped, newest)
   table.sort(dropped)
   if dropped[1] then
      mail.remove(session.list, dropped)
   end
   local hidden = newest and math.max(0, mail.count(session.list) - newest) or 0
   if hidden > 0 then
      mail.keep_last(session.list, newest)
   end
   return function(number)
      local id = number - count_below(dropped, number) - hidden
      return id > 0 and id or nil
   end
end

-- Puts the messages into the order that a list of unique-ids has for them.
-- Returns how a number changes by that.
local function arrange(session, known)
   local names, id_of = {}, {}
   for number = 1, mail.count(session.list) do
      names[number] = mail.base(session.list, number)
   end
   local order = known:arrange(names)
   mail.arrange(session.list, order)
   for id, number in ipairs(order) do
      id_of[number] = id
   end
   return function(number)
      return id_of[number]
   end
end

-- What a list of the shelf is found by.
local function key_of(session)
   return session.dir .. session.marks
end

-- Takes the list of the session before, if there is one and nothing has changed since.
local function reopen(session)
   session.list, session.since = shelf.take(key_of(session), session.dir)
   return session.list ~= nil
end

-- Reads the Maildir: fixes the session's messages, and their order.
local function open(session, options, known)
   local list, err = mail.scan(session.dir, {
      mtime = options.order == "mtime",
      hide_trashed = options.dele == "flag",
      patience = PATIENCE,
      since = options.days and os.time() - math.floor(options.days * DAY),
   })
   if not list then
      return nil, err
   end
   session.list = list
   local kept, dropped = {}, {}
   for _, numbers in ipairs(mail.same(list) or {}) do
      local ok
      ok, err = sort_same(session, numbers, kept, dropped)
      if not ok then
         return nil, err
      end
   end
   local number_of = narrow(session, dropped, options.newest)
   local id_of = known.order and arrange(session, known) or function(number)
      return number
   end
   for listed, one in pairs(kept) do
      local number = number_of(listed)
      local id = number and id_of(number)
      if id then
         session.links[id], session.twins[id] = one.names or nil, one.twin or nil
      end
   end
   return true
end

-- What stays with each message: its base name, and what tells it from a twin.
local function names_of(session)
   local names = {}
   for id = 1, mail.count(session.list) do
      local base, twin = mail.base(session.list, id), session.twins[id]
      names[id] = twin and base .. "\0" .. twin or base
   end
   return names
end

-- What a message is called now.
local function file_of(session, id)
   return session.files[id] or session.now and mail.file(session.now, id) or mail.file(session.list, id)
end

-- What a message is called now, of the files that have its base name.
-- Returns a list of names, or nil and why it cannot be told.
local function names_among(session, id, found)
   local twin = session.twins[id]
   if not found[2] and not twin then
      return found
   end
   local messages, err = tell_apart(session.dir, found)
   if not messages then
      return nil, err
   end
   for _, message in ipairs(messages) do
      if message.id == twin or not twin and not messages[2] then
         return message
      end
   end
   if twin or not messages[1] then
      return {}
   end
   return nil, ("%s: other messages of the same name have come"):format(file_of(session, id))
end

-- Takes the new name of one message.  Returns whether it has one.
local function follow(session, id, found)
   local names, err = names_among(session, id, found)
   if not names then
      session.unsure[id] = err
      return true
   end
   session.unsure[id] = nil
   session.links[id] = names[2] and names
   if names[1] then
      session.files[id] = names[#names]
   end
   return names[1] ~= nil
end

-- What the list itself knows of messages that have one name each.
local function follow_plain(session, several)
   local among = {}
   for _, id in ipairs(several) do
      among[id] = true
   end
   for _, map in ipairs({ session.files, session.links, session.unsure }) do
      for id in pairs(map) do
         if not among[id] and mail.file(session.now, id) then
            map[id] = nil
         end
      end
   end
end

-- Finds out what every message is called now.  A scan may miss a name that
-- changes while it runs; what two scans miss is gone.
local function find_again(session)
   local before = {}
   for _ = 1, 2 do
      local now, err = mail.scan(session.dir, { names_only = true })
      if not now then
         return nil, err
      end
      local missing, several = mail.follow(session.list, now)
      local missed = {}
      if session.now then
         mail.close(session.now)
      end
      session.now = now
      follow_plain(session, several)
      for _, id in ipairs(several) do
         if not session.gone[id] and not follow(session, id, mail.files_of(now, mail.base(session.list, id))) then
            missing[#missing + 1] = id
         end
      end
      for _, id in ipairs(missing) do
         if not session.gone[id] then
            missed[id] = true
            session.gone[id], session.unsure[id] = before[id], nil
         end
      end
      if not next(missed) then
         break
      end
      before = missed
   end
   return true
end

-- Calls f(path) with the path of a message, and again with another if the file
-- is not called so any more.  Returns f's results; or false: the message is
-- gone; or nil and the reason.
local function with_path(session, id, f)
   for _ = 1, 3 do
      if session.gone[id] then
         return false
      elseif session.unsure[id] then
         return nil, session.unsure[id]
      end
      local result, err, code = f(session.dir .. "/" .. file_of(session, id))
      if result or code ~= "ENOENT" then
         return result, err
      end
      local ok
      ok, err = find_again(session)
      if not ok then
         return nil, err
      end
   end
   return nil, ("%s: renamed again and again"):format(file_of(session, id))
end

-- Where the unique-ids are the names, a list has them already, but for twins.
local function identify_twins(session)
   for id, twin in pairs(rawget(session, "twins") or NOBODY) do
      mail.set_uid(session.list, id, fs.sha256(mail.base(session.list, id) .. "\0" .. twin))
   end
end

-- Gives the messages their unique-ids.
local function identify_all(session, known, scheme)
   local names = names_of(session)
   local ids = known:ids(names, function(id)
      return with_path(session, id, fs.read)
   end)
   local seen, refused = scheme:watch(session.dir, names, ids)
   if not seen then
      error(refused, 0)
   end
   for id, unique_id in ipairs(ids) do
      if mail.uid(session.list, id) ~= unique_id then
         mail.set_uid(session.list, id, unique_id)
      end
   end
   session.names, session.ids, session.seen = names, ids, seen
end

-- Octets as sent, and as stored; nil: not known yet.
local function known_octets(session, id)
   local sent, stored = mail.size(session.list, id)
   return sent or session.octets[id], stored or session.stored[id]
end

-- A message's octets as sent; counted once a session.  One that has gone
-- before it was counted, or cannot be read, has none: fetching it is what
-- fails, and the others are served.
local function octets(session, id)
   local n = known_octets(session, id)
   if n then
      return n
   end
   local stored
   local sent, err = with_path(session, id, function(path)
      local octets_sent, second, code = mail.measure(session.list, session.now, session.dir, id, path)
      stored = octets_sent and second
      return octets_sent, second, code
   end)
   if sent == nil then
      core.log("warning", "a message of a Maildir cannot be read; it is told to have no octets", { reason = err })
   end
   if not mail.size(session.list, id) then
      session.octets[id], session.stored[id] = sent or 0, stored or nil
   end
   return sent or 0
end

-- Tells the index what this session has learned, if that is worth it.
local function remember(session)
   local learned, cost, stale, wrong = mail.lessons(session.list)
   if wrong or learned >= LESSONS or cost >= LESSONS_OCTETS
      or stale > math.max(LESSONS, mail.count(session.list)) then
      mail.remember(session.list, session.dir)
   end
end

local function close(session)
   local gone = rawget(session, "gone")
   if session.since ~= nil and not (gone and next(gone)) then
      shelf.put(key_of(session), session.list, session.since or nil)
   else
      mail.close(session.list)
   end
   if session.now then
      mail.close(session.now)
   end
end

-- Deleting ------------------------------------------------------------------

-- Where a deleted message's file goes; false: nowhere.
local destinations = {
   unlink = function()
      return false
   end,
   flag = function(session, file)
      local flags = flags_of(file)
      if file:find("^cur/") and flags:find("T", 1, true) then
         return session.dir .. "/" .. file
      end
      local letters = {}
      for letter in (flags .. "T"):gmatch(".") do
         letters[#letters + 1] = letter
      end
      table.sort(letters) -- as Maildir wants them
      return ("%s/cur/%s:2,%s"):format(session.dir, base_of(file), table.concat(letters))
   end,
   folder = function(session, file)
      return ("%s/%s/cur/%s:2,%s"):format(session.dir, session.dele, base_of(file), (flags_of(file):gsub("T", "")))
   end,
}

local function destination(session, file)
   return (destinations[session.dele] or destinations.folder)(session, file)
end

local function is_folder(dele)
   return not destinations[dele]
end

-- Makes a folder as Maildir++ wants it, where there is none.
local function make_folder(dir)
   for _, sub in ipairs({ "", "/tmp", "/new", "/cur" }) do
      local ok, err, code = fs.mkdir(dir .. sub)
      if not ok and code ~= "EEXIST" then
         return nil, err
      end
   end
   local ok, err, code = fs.write(dir .. "/maildirfolder", "")
   if not ok and code ~= "EEXIST" then
      return nil, err
   end
   return true
end

-- Deletes a message by one of its names: true, or nil, the reason and the code.
local function delete_name(session, path)
   local to = destination(session, path:sub(#session.dir + 2))
   if to == path then
      return true
   end
   local results, reasons = fs.change({ path }, { to })
   if results[1] == true then
      return true
   end
   return nil, reasons[1], results[1] or nil
end

-- Deletes a message under every name that it has.  True also if it was gone
-- already.
local function delete(session, id)
   local deleted, err = with_path(session, id, function(path)
      return delete_name(session, path)
   end)
   if deleted == nil then
      return nil, err
   end
   for _, file in ipairs(session.links[id] or {}) do
      local ok, why, code = true, nil, nil
      if file ~= file_of(session, id) then
         ok, why, code = fs.unlink(session.dir .. "/" .. file)
      end
      if not ok and code ~= "ENOENT" then
         return nil, why
      end
   end
   session.gone[id] = true
   return true
end

-- Deletes messages that have one name each, in one thread's turn.  `rest` gets
-- those that are not to be had so.
local function delete_batch(session, ids, rest, fail)
   local froms, tos, of = {}, {}, {}
   for _, id in ipairs(ids) do
      local file = file_of(session, id)
      local to = destination(session, file)
      if session.gone[id] or session.unsure[id] or session.links[id] or to == session.dir .. "/" .. file then
         rest[#rest + 1] = id
      else
         froms[#froms + 1], tos[#tos + 1], of[#of + 1] = session.dir .. "/" .. file, to, id
      end
   end
   local results, reasons = fs.change(froms, tos)
   for i, result in ipairs(results) do
      if result == true then
         session.gone[of[i]] = true
      elseif result == "ENOENT" then
         rest[#rest + 1] = of[i]
      else
         fail(of[i], reasons[i])
      end
   end
end

local function sync(session)
   local subs = is_folder(session.dele) and { session.dele .. "/cur", "new", "cur" } or SUBDIRS
   for _, sub in ipairs(subs) do
      local ok, err, code = fs.fsync(session.dir .. "/" .. sub)
      if not ok and code ~= "ENOENT" then
         return nil, err
      end
   end
   return true
end

-- Quota ---------------------------------------------------------------------

-- What Maildir++ counts of a message: the octets of its file; nothing of one
-- that is in the trash already.
local function counted_octets(session, id)
   local file = file_of(session, id)
   if session.gone[id] or flags_of(file):find("T", 1, true) then
      return nil
   end
   local told = math.tointeger(tonumber(base_of(file):match(",S=(%d+)%f[,\0]")))
   local _, stored = known_octets(session, id)
   return told or stored or fs.size(session.dir .. "/" .. file)
end

-- What is counted of messages that are about to be deleted, by id; nil: this
-- Maildir has no quota, or they go on counting.
local function count_quota(session, ids)
   local path = session.dir .. "/maildirsize"
   if is_folder(session.dele) and session.dele ~= TRASH or not fs.size(path) then
      return nil
   end
   local quota = { path = path }
   for _, id in ipairs(ids) do
      quota[id] = counted_octets(session, id)
   end
   return quota
end

-- One line for all, added by one write: others may add theirs meanwhile.
local function give_back(session, quota, ids)
   local octets_less, messages_less = 0, 0
   for _, id in ipairs(ids) do
      if session.gone[id] and quota[id] then
         octets_less, messages_less = octets_less + quota[id], messages_less + 1
      end
   end
   if messages_less == 0 then
      return
   end
   local ok, err, code = fs.append(quota.path, ("%d %d\n"):format(-octets_less, -messages_less))
   if not ok and code ~= "ENOENT" then
      core.log("warning", "a Maildir's quota is not told what was deleted", { reason = err })
   end
end

-- Locks a Maildir by what it is, not by its name: two names of one directory
-- exclude each other.  One that does not exist is locked by its name.
local function take_lock(path, dir)
   for _ = 1, 10 do
      local st, err, code = fs.stat(dir, true)
      if not st and code ~= "ENOENT" then
         return nil, err
      end
      local lock
      lock, err, code = fs.lock(path, st and ("%d:%d"):format(st.dev, st.ino) or dir)
      if not lock then
         return lock, err, code
      end
      local now = fs.stat(dir, true)
      if (st and st.ino) == (now and now.ino) and (st and st.dev) == (now and now.dev) then
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
   local root, fixed = options.root, roots.fixed_part(options.root)
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
   local Session = class_of { dele = options.dele or "unlink", marks = options.dele == "flag" and "\0T" or "" }

   -- Where the unique-ids are the names.
   local function prepare_plain(session)
      if is_kept and reopen(session) then
         return true
      end
      local ok, err = open(session, options, {})
      if ok then
         if is_kept then
            session.since = false -- the shelf does not know the list yet
         end
         identify_twins(session)
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
         identify_all(session, known, scheme)
      end
      return ok, err
   end

   local function remember_ids(session)
      if tidy and session.ids then
         scheme:remember(session.dir, session.seen, session.names, session.ids, session.gone)
      end
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
         dir = dir:gsub("([^/])/+$", "%1"),
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
      local dir, why = roots.expand(root, mbox)
      if not dir then
         return nil, why
      end
      local ok
      ok, why = locks.insist(options, function()
         return try(mbox, dir, conn)
      end)
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
         ok, err = pcall(remember_ids, session)
         session.lock:release()
      end
      if session.list then
         if tidy then
            remember(session)
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
   lists.offer(storage.get, function(mbox, id)
      local session = sessions[mbox]
      local is_listed = session and not session.now and id <= (mail.count(session.list) or 0)
      return is_listed and mail.open(session.list, id, session.dir) or nil
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
      local session, left, reason = session_of(mbox), {}, nil
      for _, id in ipairs(ids) do
         check_id(session, id)
      end
      if is_folder(session.dele) and ids[1] then
         local made, err = make_folder(session.dir .. "/" .. session.dele)
         if not made then
            return nil, err, ids
         end
      end
      local function fail(id, err)
         left[#left + 1], reason = id, reason or err
      end
      local quota = count_quota(session, ids)
      for first = 1, #ids, BATCH do
         local rest = {}
         delete_batch(session, table.move(ids, first, math.min(first + BATCH - 1, #ids), 1, {}), rest, fail)
         for _, id in ipairs(rest) do
            local ok, err = delete(session, id)
            if not ok then
               fail(id, err)
            end
         end
      end
      if quota then
         give_back(session, quota, ids)
      end
      local ok, err = sync(session)
      if ok and not reason then
         return true
      end
      table.sort(left)
      return nil, reason or err, left
   end

   return storage
end

return maildir
