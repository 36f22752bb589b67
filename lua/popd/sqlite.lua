--- Users, mail and locks in one SQLite file, through LuaSQL.
--
-- The table is `auth` and `storage` at once.  SQL blocks, so it runs in threads
-- (`popd.thread`, module `popd.sqlite_store`).  Any number of processes of one machine
-- may use the file; it has a write-ahead log, which must not be on a network's disk.
--
-- A lock is a lease: a row that names its owner, and ends by itself unless
-- `renew` prolongs it.  A program that was killed leaves its locks for
-- `lease` seconds at most.  Deleting looks at the lease in its own transaction.
--
-- A message is stored in pieces and sent piece by piece.  Its unique-id is random, or what
-- it had before it was imported, and is never given again.
--
-- The file is opened, and made where absent, by the first call: as the user that is served as.
-- @module popd.sqlite
-- @usage
-- local store = sqlite.new { file = "/var/lib/popd/mail.db" }
-- popd.new { auth = store, storage = store }
local core = require("popd.core")
local delivery = require("popd.delivery")
local scheme = require("popd.scheme")
local thread = require("popd.thread")

local sqlite = {}

local PIECE = 256 * 1024 -- octets
local PAGE = 2000 -- messages that a scan copies at a time, so that others need not wait for all

local defaults = { threads = 4, lease = 60, secrets = "scram" }

local function is_count(value)
   return math.type(value) == "integer" and value > 0
end

local checks = {
   file = function(value)
      return type(value) == "string" and value ~= "" and not value:find("\0", 1, true) and value:sub(1, 1) ~= ":",
         "the path of a file"
   end,
   threads = function(value)
      return is_count(value) and value <= 64, "an integer from 1 to 64"
   end,
   lease = function(value)
      return is_count(value), "a whole number of seconds"
   end,
   secrets = function(value)
      return type(value) == "string", "what the stored passwords serve, as auth.secrets"
   end,
}

local function check(options)
   if type(options) ~= "table" or options.file == nil then
      error('sqlite.new: a table of options expected, such as { file = "mail.db" }', 3)
   end
   local o = setmetatable({}, { __index = defaults })
   for name, value in pairs(options) do
      if not checks[name] then
         error(("sqlite.new: unknown option '%s'; there are: file, lease, secrets, threads"):format(tostring(name)), 3)
      end
      local ok, wanted = checks[name](value)
      if not ok then
         error(("sqlite.new: option '%s' takes %s"):format(name, wanted), 3)
      end
      o[name] = value
   end
   return o
end

local function hex(octets)
   return (octets:gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end))
end

-- A message in pieces; at least one, so that an empty message is told from none.
local function cut(message)
   local pieces = {}
   for at = 1, math.max(1, #message), PIECE do
      pieces[#pieces + 1] = message:sub(at, at + PIECE - 1)
   end
   return pieces
end

-- What a thread raised, without its traceback: for functions that return reasons.
local function try(f, ...)
   local results = table.pack(pcall(f, ...))
   if not results[1] then
      return false, (tostring(results[2]):gsub("\nstack traceback:.*$", ""))
   end
   return table.unpack(results, 1, results.n)
end

local function check_name(name)
   if type(name) ~= "string" or name == "" or name:find("%c") then
      error("a user's name is a text without control characters", 3)
   end
end

local function check_stored(password)
   if type(password) ~= "string" or not password:find("^[{$]") then
      error("a stored password expected, as popd.scheme.make gives it; a plain one carries {PLAIN}", 3)
   end
   local kind, why = scheme.kind(password)
   if not kind then
      error("a stored password that cannot be used: " .. tostring(why), 3)
   end
end

local function add_storage(store, o, threads)
   local file, sessions = o.file, {}
   local stamp, count = hex(core.random(16)), 0

   -- Sessions by connection; by mbox for those who call these functions themselves.
   local function session_of(mbox, conn)
      return sessions[conn or mbox] or error(("maildrop '%s' is not locked"):format(tostring(mbox)), 3)
   end

   local function number_of(mbox, id, conn)
      return session_of(mbox, conn).numbers[id] or error(("no message %s"):format(tostring(id)), 3)
   end

   --- Takes the maildrop's lease.
   -- @string mbox the user's name
   -- @treturn boolean false while another session has it, in any process
   -- @treturn table which: its `process`, and the `age` of the lock in seconds
   function store.lock(mbox, conn)
      count = count + 1
      local owner = ("%s.%d.%d.%d"):format(stamp, count, (core.spool_self()), os.time())
      local got, holder = threads.lock(mbox, file, owner, o.lease)
      if got then
         sessions[conn or mbox] = { owner = owner, numbers = {} }
         return true
      end
      local process, since = (holder or ""):match("%.(%d+)%.(%d+)$")
      return false, { kind = "lease", process = process, age = since and os.time() - tonumber(since) }
   end

   --- Prolongs it.
   -- @string mbox
   -- @treturn boolean false: it ran out, and another session has it
   function store.renew(mbox, conn)
      return threads.renew(mbox, file, session_of(mbox, conn).owner, o.lease)
   end

   --- Gives it back.
   -- @string mbox
   function store.unlock(mbox, conn)
      local session = sessions[conn or mbox]
      sessions[conn or mbox] = nil
      if session then
         threads.unlock(mbox, file, session.owner)
      end
   end

   --- All sizes and unique-ids, in the order of arrival.
   -- @string mbox
   -- @treturn table sizes
   -- @treturn table unique-ids
   function store.scan(mbox, conn)
      local sizes, uids, numbers = {}, {}, {}
      repeat
         local n = #numbers
         local s, u, more = threads.scan(mbox, file, numbers[n] or 0, PAGE)
         table.move(s, 1, #s, n + 1, sizes)
         table.move(u, 1, #u, n + 1, uids)
         table.move(more, 1, #more, n + 1, numbers)
      until #more < PAGE
      session_of(mbox, conn).numbers = numbers
      return sizes, uids
   end

   -- The first piece is there already.
   local function in_pieces(mbox, number, first, stored)
      local n, left = 0, stored
      return function()
         if left <= 0 then
            return nil
         end
         local piece = n == 0 and first or threads.piece(mbox, file, number, n)
         if not piece then
            return nil, "the message was deleted while it was sent"
         end
         n, left = n + 1, left - #piece
         return piece
      end
   end

   --- A message.
   -- @string mbox
   -- @int id
   -- @return a string, a function for one of many pieces, or nil: it is gone
   function store.get(mbox, id, conn)
      local number = number_of(mbox, id, conn)
      local first, stored = threads.first(mbox, file, number)
      if first and #first < stored then
         return in_pieces(mbox, number, first, stored)
      end
      return first
   end

   --- Deletes messages: all or none, and none if the lease is another's.
   -- @string mbox
   -- @tparam table ids
   -- @treturn boolean true, or nil and the reason
   function store.dele(mbox, ids, conn)
      local numbers = {}
      for i, id in ipairs(ids) do
         numbers[i] = number_of(mbox, id, conn)
      end
      if threads.dele(mbox, file, session_of(mbox, conn).owner, o.lease, numbers) then
         return true
      end
      return nil, "the lease has run out, and another session has taken it"
   end
end

local function add_users(store, o, threads)
   local file = o.file

   --- A user's stored password.
   -- @string name
   -- @treturn string or nil
   -- @treturn string the mbox, which is the name
   function store.lookup(name)
      local password = threads.lookup(name, file)
      if password then
         return password, name
      end
   end

   --- Adds a user, who has no mail yet.
   -- @string name
   -- @string password as `popd.scheme.make` gives it, or `{PLAIN}…`
   -- @treturn boolean true, or nil and the reason
   function store.add(name, password)
      check_name(name)
      check_stored(password)
      local ok, result = try(threads.add, name, file, password)
      if ok and result then
         return true
      end
      return nil, ok and ("there is a user '%s' already"):format(name) or result
   end

   --- Changes a user's password.
   -- @string name
   -- @string password as `add` takes it
   -- @treturn boolean true, or nil and the reason
   function store.password(name, password)
      check_name(name)
      check_stored(password)
      local ok, result = try(threads.password, name, file, password)
      if ok and result then
         return true
      end
      return nil, ok and ("there is no user '%s'"):format(name) or result
   end

   --- Removes a user with all mail, unless a session is open.
   -- @string name
   -- @treturn boolean true, or nil and the reason
   function store.remove(name)
      check_name(name)
      local ok, result = try(threads.remove, name, file)
      if ok and result then
         return true
      elseif not ok then
         return nil, result
      end
      return nil, (result == nil and "maildrop '%s' is locked" or "there is no user '%s'"):format(name)
   end

   --- The users' names, sorted.
   -- @treturn table or nil and the reason
   function store.users()
      local ok, result = try(threads.users, nil, file)
      if ok then
         return result
      end
      return nil, result
   end
end

local function add_mail(store, o, threads)
   local file = o.file

   -- Adds messages; how many, or nil and why not.
   local function put(mbox, messages)
      local ok, added = try(threads.put, mbox, file, messages)
      if ok and added then
         return added
      end
      return nil, ok and ("there is no user '%s'"):format(mbox) or added, ok and "NOUSER" or nil
   end

   --- Delivers a message, as `popd.delivery` tells.
   -- @string mbox
   -- @param source a message handle
   -- @tparam[opt] table options `from`, `to`
   -- @treturn boolean true, or nil, the reason and the sort of failure
   function store.deliver(mbox, source, options)
      local message, err, sort = delivery.read(source, options)
      if not message then
         return nil, err, sort
      end
      local added
      added, err, sort = put(mbox, { { pieces = cut(message) } })
      if not added then
         return nil, err, sort
      end
      return true
   end

   --- Takes messages over from elsewhere, all or none; those whose unique-id was
   -- taken over before, or is there, are left out.
   -- @string mbox
   -- @tparam table messages `{ message =, uid = [, time =] [, flags =] [, name =] }`: octets,
   -- unique-id, seconds since 1970 of its delivery, a Maildir's flags (nil: it is new), its
   -- file's base name where that is not the unique-id
   -- @treturn integer how many came, or nil and the reason
   function store.import(mbox, messages)
      local list = {}
      for i, one in ipairs(messages) do
         list[i] = { pieces = cut(one.message), uid = one.uid, time = one.time, flags = one.flags, name = one.name }
      end
      return put(mbox, list)
   end

   --- The unique-ids that were taken over, and those that are there.
   -- @string mbox
   -- @treturn table by unique-id the message's octets as sent, or true where it is gone; or nil
   -- and the reason
   function store.known(mbox)
      local ok, result = try(threads.known, mbox, file)
      if ok then
         return result
      end
      return nil, result
   end

   local function whole(mbox, number)
      local first, stored = threads.first(mbox, file, number)
      local parts, have = { first }, first and #first
      while first and have < stored do
         local piece = threads.piece(mbox, file, number, #parts)
         if not piece then
            return nil
         end
         parts[#parts + 1], have = piece, have + #piece
      end
      return first and table.concat(parts)
   end

   --- Goes over a user's messages, as `import` takes them; it needs no lock, and one
   -- that is deleted meanwhile is left out.
   -- @string mbox
   -- @tparam table without base names, or else unique-ids, that are left out: true by each
   -- @treturn func for a loop: the next message; it raises what fails
   -- @usage for one in store.export("joe", {}) do print(one.uid, #one.message) end
   function store.export(mbox, without)
      return coroutine.wrap(function()
         local after = 0
         repeat
            local list = threads.list(mbox, file, after, PAGE)
            for _, one in ipairs(list) do
               after, one.message = one.number, not without[one.name or one.uid] and whole(mbox, one.number) or nil
               if one.message then
                  coroutine.yield(one)
               end
               one.message = nil
            end
         until #list < PAGE
      end)
   end
end

-- What a thread says of a missing module is a list of all places where it is not.
local function start(o)
   local ok, threads = pcall(thread.new, "popd.sqlite_store", { threads = o.threads })
   if ok then
      return threads
   elseif tostring(threads):find("module 'luasql.sqlite3' not found", 1, true) then
      error("popd.sqlite needs LuaSQL's driver for SQLite (Debian: lua-sql-sqlite3; LuaRocks: luasql-sqlite3)", 3)
   end
   error(threads, 0)
end

--- Makes a back end.
-- @tparam table options `file`: its path; `threads`: how many work on it (4);
-- `lease`: for how many seconds a lock outlives a program that was killed (60);
-- longer than the server's `renew_interval`; `secrets`: what all stored
-- passwords serve, as `auth.secrets` (`"scram"`, by `SCRAM-SHA-256`; `"plain"` or `"hash"`)
-- @treturn table the functions of auth and storage, and `add`, `remove`, `password`, `users`, `deliver`
-- @raise LuaSQL's SQLite driver is not installed
-- @usage
-- local store = sqlite.new { file = "mail.db" }
-- assert(store.add("joe", popd.scheme.make("SCRAM-SHA-256", "secret")))
function sqlite.new(options)
   local o = check(options)
   local threads = start(o)
   local store = { secrets = o.secrets }
   add_users(store, o, threads)
   add_storage(store, o, threads)
   add_mail(store, o, threads)
   return store
end

return sqlite
