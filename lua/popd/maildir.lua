--- The Maildir that Postfix, Exim, Dovecot or procmail deliver into.
--
-- Messages are the regular files of `new` and `cur`; nothing is moved or
-- renamed, and only a session's QUIT deletes.  A Maildir that does not exist
-- yet is an empty maildrop.
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
local uidl = require("popd.uidl")

local maildir = {}

local OPTIONS = { root = "string", lock = "string", uidl = "style" }

-- Where to look, in this order: a message that is moved from new to cur in
-- between is seen twice, never missed.
local SUBDIRS = { "new", "cur" }

local function check(options)
   if type(options) ~= "table" then
      error('maildir.new: a table of options expected, such as { root = "/var/vmail/%s" }', 3)
   end
   for name, value in pairs(options) do
      if not OPTIONS[name] then
         error(("maildir.new: unknown option '%s'; there are: lock, root, uidl"):format(tostring(name)), 3)
      elseif type(value) ~= OPTIONS[name] and name ~= "uidl" then
         error(("maildir.new: option '%s' takes a %s"):format(name, OPTIONS[name]), 3)
      end
   end
   local root = options.root
   if not root or root == "" then
      error("maildir.new: option 'root' is missing", 3)
   elseif root:find("\0") or options.lock and options.lock:find("\0") then
      error("maildir.new: a path cannot contain NUL", 3)
   elseif root:gsub("%%[snd%%]", ""):find("%", 1, true) then
      error("maildir.new: option 'root' knows %s, %n, %d and %%", 3)
   end
end

-- The directory in front of the first part that differs between maildrops.
local function fixed_part(root)
   local plain = root:gsub("%%%%", "\0")
   local at = plain:find("%", 1, true)
   if at then
      plain = plain:sub(1, at - 1):match("^.*/") or "./"
   end
   return (plain:gsub("\0", "%%"):gsub("([^/])/*$", "%1"))
end

-- A part of an mbox is one name in a directory, and no special one.
local function is_safe(part)
   return part and part ~= "" and part:sub(1, 1) ~= "." and not part:find("[/%c]")
end

local function parts_of(mbox)
   local name, domain = mbox:match("^(.*)@(.*)$")
   return { s = mbox, n = name or mbox, d = domain, ["%"] = "%" }
end

-- The Maildir of an mbox, or nil and why it can have none.
local function expand(root, mbox)
   if type(mbox) ~= "string" then
      return nil, ("a maildrop's name is a string, not a %s"):format(type(mbox))
   end
   local parts, bad = parts_of(mbox), nil
   local dir = root:gsub("%%(.)", function(letter)
      if letter ~= "%" and not is_safe(parts[letter]) then
         bad = letter
      end
      return parts[letter] or ""
   end)
   if bad then
      return nil, ("maildrop %q: its part %%%s is no name for a directory"):format(mbox, bad)
   end
   return dir
end

local function base_of(file)
   return file:match("^%l+/([^:]*)")
end

-- Sorts by delivery time, which is the number that a name starts with.
local function sort_key(file)
   local name = file:sub(5)
   local time = name:match("^0*(%d+)") or ("9"):rep(24)
   return ("0"):rep(24 - #time) .. time .. " " .. name .. " " .. file
end

local function sort_by_delivery(files)
   local keys, by_key = {}, {}
   for i, file in ipairs(files) do
      local key = sort_key(file)
      keys[i], by_key[key] = key, file
   end
   table.sort(keys)
   for i, key in ipairs(keys) do
      files[i] = by_key[key]
   end
end

-- Adds the messages of one subdirectory, as "cur/name".
local function list_subdir(dir, sub, files)
   local names, types, code = fs.scandir(dir .. "/" .. sub)
   if not names then
      if code == "ENOENT" then
         return true
      end
      return nil, types
   end
   for i, name in ipairs(names) do
      if types[i] == "file" and name:sub(1, 1) ~= "." then
         files[#files + 1] = sub .. "/" .. name
      end
   end
   return true
end

local function list(dir)
   local files = {}
   for _, sub in ipairs(SUBDIRS) do
      local ok, err = list_subdir(dir, sub, files)
      if not ok then
         return nil, err
      end
   end
   return files
end

-- Files by base name: one, or a list where several have the same.
local function by_base(files)
   local map = {}
   for _, file in ipairs(files) do
      local base = base_of(file)
      local before = map[base]
      if not before then
         map[base] = file
      elseif type(before) == "table" then
         before[#before + 1] = file
      else
         map[base] = { before, file }
      end
   end
   return map
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

-- Takes the messages of one base name into the session: `files` has a name of
-- each, `links` its further names, `twins` what tells it from the others.
local function add_same(session, same)
   local messages, err = tell_apart(session.dir, same)
   if not messages then
      return nil, err
   end
   for _, message in ipairs(messages) do
      local file = message[#message]
      table.insert(session.files, file)
      session.links[file] = message[2] and message
      session.twins[file] = messages[2] and message.id
   end
   return true
end

-- `links` and `twins` are by file name until the order is known.
local function by_number(map, files)
   local numbered = {}
   if next(map) then
      for i, file in ipairs(files) do
         numbered[i] = map[file]
      end
   end
   return numbered
end

-- What stays with each message: its base name, and what tells it from a twin.
local function names_of(session)
   local names = {}
   for id, file in ipairs(session.files) do
      local twin = session.twins[id]
      names[id] = twin and base_of(file) .. "\0" .. twin or base_of(file)
   end
   return names
end

-- Puts the messages into the order that a list of unique-ids has for them.
local function arrange(session, known)
   local names, files = {}, session.files
   for id, file in ipairs(files) do
      names[id] = base_of(file)
   end
   session.files = {}
   for id, before in ipairs(known:arrange(names)) do
      session.files[id] = files[before]
   end
end

-- Fixes the session's messages, and their order.
local function open(session, known)
   local files, err = list(session.dir)
   if not files then
      return nil, err
   end
   for _, file in pairs(by_base(files)) do
      if type(file) == "string" then
         table.insert(session.files, file)
      else
         local ok
         ok, err = add_same(session, file)
         if not ok then
            return nil, err
         end
      end
   end
   sort_by_delivery(session.files)
   if known.order then
      arrange(session, known)
   end
   session.links = by_number(session.links, session.files)
   session.twins = by_number(session.twins, session.files)
   return true
end

-- What a message is called now, of the files that have its base name.
-- Returns a list of names, or nil and why it cannot be told.
local function names_among(session, id, found)
   if not found then
      return {}
   elseif type(found) == "string" and not session.twins[id] then
      return { found }
   end
   local messages, err = tell_apart(session.dir, type(found) == "table" and found or { found })
   if not messages then
      return nil, err
   end
   local twin = session.twins[id]
   for _, message in ipairs(messages) do
      if message.id == twin or not twin and not messages[2] then
         return message
      end
   end
   if twin or not messages[1] then
      return {}
   end
   return nil, ("%s: other messages of the same name have come"):format(session.files[id])
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

-- Finds out what every message is called now.  A scan may miss a name that
-- changes while it runs; what two scans miss is gone.
local function find_again(session)
   local before = {}
   for _ = 1, 2 do
      local files, err = list(session.dir)
      if not files then
         return nil, err
      end
      local map, missed = by_base(files), {}
      for id, file in ipairs(session.files) do
         if not session.gone[id] and not follow(session, id, map[base_of(file)]) then
            missed[id] = true
            session.gone[id] = before[id]
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
      local result, err, code = f(session.dir .. "/" .. session.files[id])
      if result or code ~= "ENOENT" then
         return result, err
      end
      local ok
      ok, err = find_again(session)
      if not ok then
         return nil, err
      end
   end
   return nil, ("%s: renamed again and again"):format(session.files[id])
end

-- The octets that the name tells: `,S=` as stored, `,W=` as sent.  They count
-- if the file is as long as S says.  W = S would mean that every line already
-- ends with CRLF: rare enough to look; and no line end makes W above 2 S + 2.
local function told_octets(session, id)
   local base = base_of(session.files[id])
   local stored = math.tointeger(tonumber(base:match(",S=(%d+)%f[,\0]")))
   local sent = math.tointeger(tonumber(base:match(",W=(%d+)%f[,\0]")))
   if not stored or not sent or sent <= stored or sent > 2 * stored + 2 then
      return nil
   end
   local size = with_path(session, id, fs.size)
   if size ~= stored then
      return nil
   end
   session.stored[id] = size
   return sent
end

-- Octets as sent, and as stored: what is served later must still be that.
local function count(path)
   local n, err, code = fs.octets(path, 0, nil, false)
   if not n then
      return nil, err, code
   end
   local size = fs.size(path)
   return { sent = n, stored = size }
end

-- A message's octets as sent; counted once a session.  One that has gone
-- before it was counted, or cannot be read, has none: fetching it is what
-- fails, and the others are served.
local function octets(session, id)
   local n = session.octets[id] or told_octets(session, id)
   if not n then
      local found, err = with_path(session, id, count)
      if found == nil then
         core.log("warning", "a message of a Maildir cannot be read; it is told to have no octets", { reason = err })
      end
      n = found and found.sent or 0
      session.stored[id] = found and found.stored or nil
   end
   session.octets[id] = n
   return n
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
   session.names, session.ids, session.seen = names, ids, seen
end

-- Unlinks every name that a message has.  True also if it was gone already.
local function remove(session, id)
   local removed, err = with_path(session, id, fs.unlink)
   if removed == nil then
      return nil, err
   end
   for _, file in ipairs(session.links[id] or {}) do
      local ok, why, code = fs.unlink(session.dir .. "/" .. file)
      if not ok and code ~= "ENOENT" then
         return nil, why
      end
   end
   session.gone[id] = true
   return true
end

local function sync(dir)
   for _, sub in ipairs(SUBDIRS) do
      local ok, err, code = fs.fsync(dir .. "/" .. sub)
      if not ok and code ~= "ENOENT" then
         return nil, err
      end
   end
   return true
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
-- absent: `.popd-lock` in the fixed directory at the start of `root`;
-- `uidl`: what the unique-ids are, a style or a table as `popd.uidl` takes it, with
-- `%s`, `%n` and `%d` in its `file` too; absent: `"name"`
-- @treturn table the storage functions
-- @usage maildir.new { root = "/var/vmail/%d/%n/Maildir", lock = "/run/popd/maildir.lock" }
-- @usage maildir.new { root = "/var/vmail/%s", uidl = "dovecot" } -- as Dovecot told them
-- @usage maildir.new { root = "/home/joe/Maildir" } -- one for all
function maildir.new(options)
   check(options)
   local root, fixed = options.root, fixed_part(options.root)
   local lock_path = options.lock or fixed .. "/.popd-lock"
   local scheme = uidl.new(options.uidl, 2)
   local list_path = type(options.uidl) == "table" and options.uidl.file or nil
   local sessions, storage = {}, {}

   local function session_of(mbox)
      local session = sessions[mbox]
      if not session then
         error(("maildrop '%s' is not locked"):format(tostring(mbox)), 3)
      end
      return session
   end

   local function check_id(session, id)
      if not session.files[id] then
         error(("no message %s"):format(tostring(id)), 3)
      end
   end

   -- Fixes the session's messages, their order and their unique-ids.
   local function prepare(session, mbox)
      local file, known, ok, err
      if list_path then
         file, err = expand(list_path, mbox)
      end
      if not err then
         known, err = scheme:read(session.dir, file)
      end
      if known then
         ok, err = open(session, known)
      end
      if ok then
         identify_all(session, known, scheme)
      end
      return ok, err
   end

   local function remember(session)
      if session.ids then
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
            return true
         end
         return lock, err
      end
      session.lock = lock
      return prepare(session, mbox)
   end

   --- Claims a maildrop for one session and fixes its messages.
   -- @string mbox
   -- @treturn boolean false while another session has it, in any process
   function storage.lock(mbox)
      local dir, why = expand(root, mbox)
      if not dir then
         return nil, why
      end
      if sessions[mbox] then
         return false
      end
      local session = {
         dir = dir:gsub("([^/])/+$", "%1"),
         files = {},
         octets = {},
         stored = {},
         links = {},
         twins = {},
         gone = {},
         unsure = {},
      }
      sessions[mbox] = session
      local done, ok, err = pcall(claim, session, mbox)
      if not done or not ok then
         storage.unlock(mbox)
      end
      if not done then
         error(ok, 0)
      elseif ok == nil then
         return nil, err
      end
      return ok
   end

   --- Gives it back.
   -- @string mbox
   function storage.unlock(mbox)
      local session = sessions[mbox]
      sessions[mbox] = nil
      if session and session.lock then
         local ok, err = pcall(remember, session)
         session.lock:release()
         if not ok then
            error(err, 0)
         end
      end
   end

   --- Counts the messages.
   -- @string mbox
   -- @treturn integer
   function storage.stat(mbox)
      return #session_of(mbox).files
   end

   --- Sizes, where a message's name tells them (others are false: counting
   -- them means reading), and unique-ids.
   -- @string mbox
   -- @treturn table sizes
   -- @treturn table unique-ids
   function storage.scan(mbox)
      local session, sizes, uids = session_of(mbox), {}, {}
      for id in ipairs(session.files) do
         session.octets[id] = session.octets[id] or told_octets(session, id)
         sizes[id] = session.octets[id] or false
         uids[id] = session.ids[id]
      end
      return sizes, uids
   end

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
      local total = 0
      for each in ipairs(session.files) do
         local n, err = octets(session, each)
         if not n then
            return nil, err
         end
         total = total + n
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
      if found and session.stored[id] and session.stored[id] ~= found then
         return nil, path .. ": it has changed since its size was told"
      elseif found then
         return { path = path, follow = false }
      elseif found == nil then
         return nil, err
      end
      return nil
   end

   --- A message's unique-id.
   -- @string mbox
   -- @int id
   -- @treturn string
   function storage.uidl(mbox, id)
      local session = session_of(mbox)
      check_id(session, id)
      return session.ids[id]
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
      for _, id in ipairs(ids) do
         local ok, err = remove(session, id)
         if not ok then
            left[#left + 1], reason = id, reason or err
         end
      end
      local ok, err = sync(session.dir)
      if ok and not reason then
         return true
      end
      return nil, reason or err, left
   end

   return storage
end

return maildir
