--- A directory of maildrop directories, one file a message (Tcl's `pop3d::dbox`).
--
-- A maildrop's messages are its regular files that no dot hides, by number
-- (`2` before `10`), then the other names.  They are fixed from lock to unlock.
-- A maildrop is a directory right in the base, not a symbolic link; its name
-- cannot be empty, start with a dot, or hold `/` or a control octet.
--
-- A unique-id is a SHA-256 of the file's name, size, inode, time of change and
-- (where the file system tells) the inode's generation.  Names such as `1` are
-- used again, and so are inodes; their generation and time are not.  A file
-- that is touched or copied gets a new id: a client may fetch it twice, but
-- never takes a new message for one that it has.
--
-- A file that another program changes or replaces during a session is no longer
-- the message that was listed: it is neither served nor deleted.
--
-- The lock is a byte in `.popd-lock` in the base, which keeps out every
-- process that uses this back end, and dies with its holder.
-- @module popd.dbox
-- @usage
-- local box = dbox.new { base = "/var/mail/boxes" }
-- box.add("joe-box")
-- popd.new { auth = users, storage = box }
local delivery = require("popd.delivery")
local fs = require("popd.fs")

local dbox = {}

local OPTIONS = { base = "string" }

local function check(options)
   if type(options) ~= "table" then
      error("dbox.new: a table of options expected", 3)
   end
   for name, value in pairs(options) do
      if not OPTIONS[name] then
         error(("dbox.new: unknown option '%s'; there is: base"):format(tostring(name)), 3)
      elseif type(value) ~= OPTIONS[name] then
         error(("dbox.new: option '%s' takes a %s"):format(name, OPTIONS[name]), 3)
      end
   end
end

local function check_name(mbox)
   if type(mbox) ~= "string" then
      return nil, ("a maildrop's name is a string, not a %s"):format(type(mbox))
   elseif mbox == "" or mbox:find("^%.") or mbox:find("[/%c]") then
      return nil, ("%q is no name for a maildrop"):format(mbox)
   end
   return true
end

-- Whether a is before b.
local function by_number(a, b)
   local m, n = a:match("^0*(%d+)$"), b:match("^0*(%d+)$")
   if m and n and m ~= n then
      if #m ~= #n then
         return #m < #n
      end
      return m < n
   elseif (m == nil) ~= (n == nil) then
      return m ~= nil
   end
   return a < b
end

-- Names of one type that no dot hides.
local function list(dir, wanted)
   local names, types = fs.scandir(dir)
   if not names then
      return nil, types
   end
   local found = {}
   for i, name in ipairs(names) do
      if types[i] == wanted and name:sub(1, 1) ~= "." then
         found[#found + 1] = name
      end
   end
   return found
end

-- Removes a directory with all that is in it; links are not followed.
local function remove_tree(dir)
   local names, types = fs.scandir(dir)
   if not names then
      return nil, types
   end
   for i, name in ipairs(names) do
      local remove = types[i] == "directory" and remove_tree or fs.unlink
      local ok, err, code = remove(dir .. "/" .. name)
      if not ok and code ~= "ENOENT" then
         return nil, err
      end
   end
   return fs.rmdir(dir)
end

-- The unique-id of the message that is at path now; false: none is.
local function identify(path, name)
   local st, err, code = fs.stat(path)
   if st then
      local generation = fs.generation(path) or 0
      return fs.sha256(("%s\0%d\0%.9f\0%d\0%d"):format(name, st.size, st.mtime, st.ino, generation)):sub(1, 40)
   elseif code == "ENOENT" then
      return false
   end
   return nil, err
end

-- Adds the messages of a maildrop to a session, in order.
local function add_messages(session)
   local names, err = list(session.dir, "file")
   if not names then
      return nil, err
   end
   table.sort(names, by_number)
   for _, name in ipairs(names) do
      local uid
      uid, err = identify(session.dir .. "/" .. name, name)
      if uid == nil then
         return nil, err
      elseif uid then
         table.insert(session.names, name)
         table.insert(session.uids, uid)
      end
   end
   return true
end

--- Makes a back end for a base directory.
-- @tparam[opt] table options `base`: as the function `base` takes it
-- @treturn table the functions, or nil and the reason: the base is no directory
function dbox.new(options)
   options = options or {}
   check(options)
   local box, sessions, base = {}, {}, nil

   local function base_dir()
      return base or error("no base directory: call base(dir) first", 3)
   end

   local function path_of(mbox)
      return base .. "/" .. mbox
   end

   local function lock_file()
      return base .. "/.popd-lock"
   end

   -- The directory's lock key; or nil and the reason.
   local function find(mbox)
      local ok, why = check_name(mbox)
      if not ok then
         return nil, why
      end
      local st, err, code = fs.stat(path_of(mbox))
      if st and st.type == "directory" then
         return ("%d:%d"):format(st.dev, st.ino)
      elseif st or code == "ENOENT" then
         return nil, ("no maildrop '%s'"):format(mbox)
      end
      return nil, err
   end

   -- Locks a maildrop; the lock, false, or nil and the reason.
   local function take_lock(mbox)
      for _ = 1, 10 do
         local key, why = find(mbox)
         if not key then
            return nil, why
         end
         local lock, err = fs.lock(lock_file(), key)
         if not lock then
            return lock, err
         elseif find(mbox) == key then
            return lock
         end
         lock:release()
      end
      return nil, ("maildrop '%s' is replaced again and again"):format(mbox)
   end

   -- Calls f while nobody else has the maildrop.
   local function with_lock(mbox, f)
      local taken, why = take_lock(mbox)
      local lock <close> = taken
      if lock == false then
         return nil, ("maildrop '%s' is locked"):format(mbox)
      elseif not lock then
         return nil, why
      end
      local ok, err = f()
      if not ok then
         return nil, err
      end
      return true
   end

   local function sync_base()
      local ok, err = fs.fsync(base)
      if not ok then
         return nil, err
      end
      return true
   end

   --- Sets the directory that holds the maildrops.
   -- @string[opt] dir absent: tells which it is
   -- @treturn boolean|string true, or nil and the reason
   function box.base(dir)
      if dir == nil then
         return base
      elseif type(dir) ~= "string" or dir == "" then
         error("the base directory is a string", 2)
      elseif next(sessions) then
         error("the base directory cannot change while a maildrop is locked", 2)
      end
      local names, err = fs.scandir(dir)
      if not names then
         return nil, err
      end
      base = dir
      return true
   end

   --- Makes an empty maildrop.
   -- @string mbox
   -- @treturn boolean true, or nil and the reason
   function box.add(mbox)
      base_dir()
      local good, why = check_name(mbox)
      if not good then
         return nil, why
      end
      local ok, err, code = fs.mkdir(path_of(mbox), tonumber("700", 8))
      if ok then
         return sync_base()
      elseif code == "EEXIST" then
         return nil, ("there is a maildrop '%s' already"):format(mbox)
      end
      return nil, err
   end

   --- Removes a maildrop and its mail, unless it is locked.
   -- @string mbox
   -- @treturn boolean true, or nil and the reason
   function box.remove(mbox)
      base_dir()
      return with_lock(mbox, function()
         local ok, err = remove_tree(path_of(mbox))
         if not ok then
            return nil, err
         end
         return sync_base()
      end)
   end

   -- Takes the new name by an empty directory, which rename replaces only
   -- while it is empty: so nothing is ever overwritten.
   local function rename(old, new)
      local ok, err, code = fs.mkdir(path_of(new), tonumber("700", 8))
      if code == "EEXIST" then
         return nil, ("there is a maildrop '%s' already"):format(new)
      elseif not ok then
         return nil, err
      end
      ok, err = with_lock(new, function()
         return fs.rename(path_of(old), path_of(new))
      end)
      if not ok then
         fs.rmdir(path_of(new))
         return nil, err
      end
      return sync_base()
   end

   --- Gives a maildrop another name, unless it is locked; never overwrites one.
   -- @string old
   -- @string new
   -- @treturn boolean true, or nil and the reason
   function box.move(old, new)
      base_dir()
      local ok, why = check_name(new)
      if not ok then
         return nil, why
      end
      return with_lock(old, function()
         return rename(old, new)
      end)
   end

   --- The maildrops' names.
   -- @treturn table sorted, or nil and the reason
   function box.list()
      local names, err = list(base_dir(), "directory")
      if not names then
         return nil, err
      end
      table.sort(names)
      return names
   end

   --- Whether there is such a maildrop.
   -- @string mbox
   -- @treturn boolean
   function box.exists(mbox)
      base_dir()
      return find(mbox) ~= nil
   end

   --- Whether anybody has locked a maildrop, in any process.
   -- @string mbox
   -- @treturn boolean
   function box.locked(mbox)
      base_dir()
      local key = find(mbox)
      if not key then
         return false
      end
      local locked, err = fs.locked(lock_file(), key)
      if locked == nil then
         return nil, err
      end
      return locked
   end

   local function session_of(mbox)
      return sessions[mbox] or error(("maildrop '%s' is not locked"):format(tostring(mbox)), 3)
   end

   local function check_id(session, id)
      if not session.names[id] then
         error(("no message %s"):format(tostring(id)), 3)
      end
   end

   -- A message's path; false: it is gone, and if another file has its name,
   -- true; or nil and the reason.
   local function path_of_message(session, id)
      local name = session.names[id]
      local path = session.dir .. "/" .. name
      local uid, err = identify(path, name)
      if uid == session.uids[id] then
         return path
      elseif uid == nil then
         return nil, err
      end
      return false, uid ~= false
   end

   --- Claims a maildrop for one session and fixes its messages.
   -- @string mbox
   -- @treturn boolean false while another session has it, in any process
   function box.lock(mbox)
      base_dir()
      local lock, err = take_lock(mbox)
      if lock == nil then
         return nil, err
      elseif not lock then
         return false
      end
      local session = { lock = lock, dir = path_of(mbox), names = {}, uids = {}, octets = {} }
      local done, ok
      done, ok, err = pcall(add_messages, session)
      if not done or not ok then
         lock:release()
      end
      if not done then
         error(ok, 0)
      elseif not ok then
         return nil, err
      end
      sessions[mbox] = session
      return true
   end

   --- Gives it back.
   -- @string mbox
   function box.unlock(mbox)
      local session = sessions[mbox]
      sessions[mbox] = nil
      if session then
         session.lock:release()
      end
   end

   --- Counts the messages.
   -- @string mbox
   -- @treturn integer
   function box.stat(mbox)
      return #session_of(mbox).names
   end

   -- Counted once a session.  A message that is gone before has none.
   local function octets(session, id)
      local n = session.octets[id]
      if n then
         return n
      end
      local path, err = path_of_message(session, id)
      if path == nil then
         return nil, err
      elseif path then
         n, err = fs.octets(path)
      else
         n = 0
      end
      session.octets[id] = n
      return n, err
   end

   --- Octets as sent, of one message or of all.
   -- @string mbox
   -- @int[opt] id
   -- @treturn integer
   function box.size(mbox, id)
      local session, total = session_of(mbox), 0
      if id then
         check_id(session, id)
      end
      for each = id or 1, id or #session.names do
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
   function box.get(mbox, id)
      local session = session_of(mbox)
      check_id(session, id)
      local path, err = path_of_message(session, id)
      if path then
         return { path = path, follow = false }
      elseif path == false then
         return nil
      end
      return nil, err
   end

   --- A message's unique-id.
   -- @string mbox
   -- @int id
   -- @treturn string
   function box.uidl(mbox, id)
      local session = session_of(mbox)
      check_id(session, id)
      return session.uids[id]
   end

   --- Unique-ids in one call; sizes that were not asked for yet are false, since
   -- counting means reading.
   -- @string mbox
   -- @treturn table sizes
   -- @treturn table unique-ids
   function box.scan(mbox)
      local session, sizes = session_of(mbox), {}
      for id in ipairs(session.names) do
         sizes[id] = session.octets[id] or false
      end
      return sizes, table.move(session.uids, 1, #session.uids, 1, {})
   end

   -- True also for one that is gone; a file that has changed is not deleted.
   local function remove(session, id)
      local path, other = path_of_message(session, id)
      if path then
         local ok, err, code = fs.unlink(path)
         return ok or code == "ENOENT", err
      elseif path == nil then
         return nil, other
      elseif other then
         return nil, ("%s/%s: the file has changed since it was listed"):format(session.dir, session.names[id])
      end
      return true
   end

   --- Deletes messages; one that another program has removed counts as deleted.
   -- @string mbox
   -- @tparam table ids
   -- @treturn boolean true, or nil, the first reason and the ids that are still there
   function box.dele(mbox, ids)
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
      local ok, err, code = fs.fsync(session.dir)
      if (ok or code == "ENOENT") and not reason then
         return true
      end
      return nil, reason or err, left
   end

   --- Delivers a message, under the next number; see `popd.delivery`.
   -- @string mbox
   -- @param source a message handle
   -- @tparam[opt] table how `from`, `to`
   -- @treturn boolean true, or nil, the reason and the sort of failure
   function box.deliver(mbox, source, how)
      return delivery.dbox { base = base_dir() }(mbox, source, how)
   end

   if options.base then
      local ok, err = box.base(options.base)
      if not ok then
         return nil, err
      end
   end
   return box
end

return dbox
