--- What threads do for `popd.sqlite`: SQL, which blocks.
--
-- Each thread has a connection of its own to each file.  Every function gets
-- the maildrop (or the user's name) first, by which `popd.thread` keeps a session on one
-- thread, then the file; it raises where the database fails, with the file's name in front.
-- @module popd.sqlite_store
local core = require("popd.core")
local fs = require("popd.fs")
local handle = require("popd.handle")
local driver = require("luasql.sqlite3").sqlite3()

local store = {}

local APPLICATION = 0x706F7064 -- "popd", in the file's header
local VERSION = 1
local BUSY = 10000 -- milliseconds that one waits for another to commit
local CHUNK = 2048 -- octets that are made hex digits at a time
local MANY = 500 -- messages that one statement deletes

-- A piece's row has this number: those of a message lie together in the file.
-- 2^20 pieces of 256 KiB are more than a row of theirs could be asked for.
local PIECE_BITS = 20

local SCHEMA = {
   "CREATE TABLE users (name TEXT PRIMARY KEY, password TEXT NOT NULL)",
   -- AUTOINCREMENT: a number is never given again, so a session that knows it by
   -- its number can never get another message.  octets: as sent; flags: a Maildir's, NULL: not seen;
   -- name: what its file was called, where that is not the unique-id
   "CREATE TABLE mail (number INTEGER PRIMARY KEY AUTOINCREMENT, mbox TEXT NOT NULL, uid TEXT NOT NULL, "
      .. "octets INTEGER NOT NULL, stored INTEGER NOT NULL, delivered INTEGER NOT NULL, flags TEXT, name TEXT)",
   "CREATE UNIQUE INDEX mail_uid ON mail (mbox, uid)",
   "CREATE INDEX mail_number ON mail (mbox, number)",
   "CREATE TABLE pieces (id INTEGER PRIMARY KEY, octets BLOB NOT NULL)",
   "CREATE TABLE leases (mbox TEXT PRIMARY KEY, owner TEXT NOT NULL, ends INTEGER NOT NULL)",
   -- what was imported, also what is deleted since: it does not come again
   "CREATE TABLE imported (mbox TEXT NOT NULL, uid TEXT NOT NULL, PRIMARY KEY (mbox, uid)) WITHOUT ROWID",
}

-- SQL -----------------------------------------------------------------------

local function hex(octets)
   local parts = {}
   for at = 1, #octets, CHUNK do
      local n = math.min(CHUNK, #octets - at + 1)
      parts[#parts + 1] = ("%02x"):rep(n):format(octets:byte(at, at + n - 1))
   end
   return table.concat(parts)
end

-- LuaSQL has no parameters, so values stand in the statement: in quotes, of which
-- only a quote is special, or as hex digits where a NUL would end the statement.
local function literal(value, kind)
   if value:find("\0", 1, true) then
      return ("CAST(x'%s' AS %s)"):format(hex(value), kind)
   end
   return ("CAST('%s' AS %s)"):format(value:gsub("'", "''"), kind)
end

local function text(value)
   return literal(value, "TEXT")
end

local Db = {}
Db.__index = Db

function Db:fail(err)
   error(("%s: %s"):format(self.file, tostring(err):gsub("^LuaSQL: ", "")), 0)
end

-- Runs a statement; how many rows it changed, or a cursor.
function Db:run(sql, ...)
   if select("#", ...) > 0 then
      sql = sql:format(...)
   end
   local result, err = self.connection:execute(sql)
   return result or self:fail(err)
end

-- All rows of a query, each an array.
function Db:rows(sql, ...)
   local cursor, list = self:run(sql, ...), {}
   while type(cursor) ~= "number" do -- a PRAGMA may have none
      local ok, row, err = pcall(cursor.fetch, cursor, {}, "n")
      if not ok or err then
         pcall(cursor.close, cursor)
         self:fail(err or row)
      elseif not row then
         pcall(cursor.close, cursor)
         return list
      end
      list[#list + 1] = row
   end
   return list
end

-- The first value of a query's first row, or nil.
function Db:value(sql, ...)
   local row = self:rows(sql, ...)[1]
   return row and row[1]
end

-- All of f's changes, or none; "DEFERRED": f only reads, and all of one state.
-- Returns what f returns.
function Db:transaction(f, kind)
   self:run("BEGIN " .. (kind or "IMMEDIATE"))
   local ok, result, more = pcall(function()
      local first, second = f()
      self:run("COMMIT")
      return first, second
   end)
   if not ok then
      self.connection:execute("ROLLBACK")
      error(result, 0)
   end
   return result, more
end

-- Runs one statement about a lease: it need not outlast a power failure, so it
-- is not waited for until it is on the disk.
function Db:lease(sql, ...)
   self:rows("PRAGMA synchronous = NORMAL")
   local ok, changed = pcall(self.run, self, sql, ...)
   self:rows("PRAGMA synchronous = FULL")
   return ok and changed == 1 or not ok and error(changed, 0)
end

-- The file ------------------------------------------------------------------

-- What the file is: its version, 0 for an empty one; raises for what is not ours.
function Db:version()
   local version = math.tointeger(self:value("PRAGMA user_version"))
   if math.tointeger(self:value("PRAGMA application_id")) == APPLICATION then
      if version > VERSION then
         self:fail(("a newer popd-lua made it (version %d; this one knows %d)"):format(version, VERSION))
      end
      return version
   elseif version ~= 0 or self:value("SELECT name FROM sqlite_master LIMIT 1") then
      self:fail("it is another program's database")
   end
   return 0
end

-- Others that open a new file at the same time want this too: SQLite does not
-- wait for them here.
function Db:use_wal()
   for _ = 1, BUSY // 50 do
      local ok, mode = pcall(self.value, self, "PRAGMA journal_mode = WAL")
      if ok and mode == "wal" then
         return
      elseif not ok and not mode:find("locked", 1, true) then
         error(mode, 0)
      end
      core.sleep(0.05)
   end
   self:fail("there is no write-ahead log: it must be on a disk of this machine, and its directory writable")
end

function Db:make()
   self:transaction(function()
      if self:version() == 0 then
         for _, statement in ipairs(SCHEMA) do
            self:run(statement)
         end
         self:run(("PRAGMA application_id = %d"):format(APPLICATION))
         self:run(("PRAGMA user_version = %d"):format(VERSION))
      end
   end)
end

-- Mail and passwords are for the owner alone.  Whatever is wrong with the path,
-- SQLite says it.
local function connect(file)
   if fs.write(file, "") then
      fs.fsync(file:match("^.*/") or ".")
   end
   local connection, err = driver:connect(file)
   local db = setmetatable({ file = file, connection = connection }, Db)
   if not connection then
      db:fail(err)
   end
   local ok, why = pcall(function()
      db:rows(("PRAGMA busy_timeout = %d"):format(BUSY))
      -- In one transaction: somebody else may be making the file.
      local is_new = db:transaction(function()
         return db:version()
      end, "DEFERRED") == 0
      db:use_wal()
      db:rows("PRAGMA synchronous = FULL")
      if is_new then
         db:make()
      end
   end)
   if not ok then
      connection:close()
      error(why, 0)
   end
   return db
end

local databases = {}

local function open(file)
   local db = databases[file] or connect(file)
   databases[file] = db
   return db
end

-- Users -----------------------------------------------------------------------

function store.lookup(name, file)
   return open(file):value("SELECT password FROM users WHERE name = %s", text(name))
end

--- Adds a user; false: there is one.
function store.add(name, file, password)
   local sql = "INSERT INTO users VALUES (%s, %s) ON CONFLICT DO NOTHING"
   return open(file):run(sql, text(name), text(password)) == 1
end

--- Changes a stored password; false: there is no such user.
function store.password(name, file, password)
   return open(file):run("UPDATE users SET password = %s WHERE name = %s", text(password), text(name)) == 1
end

function store.users(_, file)
   local names = {}
   for i, row in ipairs(open(file):rows("SELECT name FROM users ORDER BY name")) do
      names[i] = row[1]
   end
   return names
end

local function first_id(number)
   return number << PIECE_BITS
end

-- Deletes messages by number, and nothing of another maildrop.
local function delete(db, mbox, numbers)
   for first = 1, #numbers, MANY do
      local some = table.concat(numbers, ",", first, math.min(first + MANY - 1, #numbers))
      for _, row in ipairs(db:rows("SELECT number FROM mail WHERE mbox = %s AND number IN (%s)", text(mbox), some)) do
         local id = first_id(math.tointeger(row[1]))
         db:run("DELETE FROM pieces WHERE id BETWEEN %d AND %d", id, id + (1 << PIECE_BITS) - 1)
      end
      db:run("DELETE FROM mail WHERE mbox = %s AND number IN (%s)", text(mbox), some)
   end
end

--- Removes a user and the mail; false: there is none; nil: a session is open.
function store.remove(name, file)
   local db = open(file)
   return db:transaction(function()
      if db:value("SELECT 1 FROM leases WHERE mbox = %s AND ends >= %d", text(name), os.time()) then
         return nil
      end
      local numbers = {}
      for i, row in ipairs(db:rows("SELECT number FROM mail WHERE mbox = %s", text(name))) do
         numbers[i] = math.tointeger(row[1])
      end
      delete(db, name, numbers)
      db:run("DELETE FROM imported WHERE mbox = %s", text(name))
      db:run("DELETE FROM leases WHERE mbox = %s", text(name))
      return db:run("DELETE FROM users WHERE name = %s", text(name)) == 1
   end)
end

-- Sessions --------------------------------------------------------------------

--- Takes the lease if nobody has it or its time is up: one statement, so that
-- two who try at once cannot both get it.  False comes with the owner.
function store.lock(mbox, file, owner, seconds)
   local now, db = os.time(), open(file)
   local got = db:lease(
      "INSERT INTO leases VALUES (%s, %s, %d) ON CONFLICT (mbox) DO UPDATE SET owner = excluded.owner, "
         .. "ends = excluded.ends WHERE ends < %d",
      text(mbox), text(owner), now + seconds, now)
   return got, not got and db:value("SELECT owner FROM leases WHERE mbox = %s", text(mbox)) or nil
end

local PROLONG = "UPDATE leases SET ends = %d WHERE mbox = %s AND owner = %s"

--- Prolongs a lease; false: another has it.
function store.renew(mbox, file, owner, seconds)
   return open(file):lease(PROLONG, os.time() + seconds, text(mbox), text(owner))
end

function store.unlock(mbox, file, owner)
   open(file):lease("DELETE FROM leases WHERE mbox = %s AND owner = %s", text(mbox), text(owner))
end

--- A page of a maildrop's messages in order: sizes, unique-ids, numbers.
function store.scan(mbox, file, after, count)
   local sizes, uids, numbers = {}, {}, {}
   for i, row in ipairs(open(file):rows(
      "SELECT octets, uid, number FROM mail WHERE mbox = %s AND number > %d ORDER BY number LIMIT %d", text(mbox),
      after, count)) do
      sizes[i], uids[i], numbers[i] = math.tointeger(row[1]), row[2], math.tointeger(row[3])
   end
   return sizes, uids, numbers
end

--- The first piece of a message, and its octets as stored; nil: it is gone.
function store.first(mbox, file, number)
   local row = open(file):rows(
      "SELECT p.octets, m.stored FROM mail m, pieces p WHERE m.number = %d AND m.mbox = %s AND p.id = %d", number,
      text(mbox), first_id(number))[1]
   if row then
      return row[1], math.tointeger(row[2])
   end
end

--- A further piece, from 1 on; nil: it is gone.
function store.piece(_, file, number, n)
   return open(file):value("SELECT octets FROM pieces WHERE id = %d", first_id(number) + n)
end

--- All of them or none.  The lease is looked at in the same transaction: nobody
-- can take it in between.  False: another has it.
function store.dele(mbox, file, owner, seconds, numbers)
   local db = open(file)
   return db:transaction(function()
      if db:run(PROLONG, os.time() + seconds, text(mbox), text(owner)) ~= 1 then
         return false
      end
      delete(db, mbox, numbers)
      return true
   end)
end

-- Mail that comes and goes ------------------------------------------------------

local function octets_of(pieces)
   if #pieces == 1 then
      return fs.octets_of(pieces[1])
   end
   local n = 0
   return assert(handle.octets(function()
      n = n + 1
      return pieces[n]
   end))
end

-- Of the form of a Maildir's names, which it is once the message is exported.
local function new_uid()
   local now = core.date()
   return ("%d.M%06dR%s.popd"):format(now // 1, now % 1 * 1e6 // 1, hex(core.random(16)))
end

-- Whether a message that is imported is new here.
local function note_import(db, mbox, uid)
   return db:run("INSERT INTO imported VALUES (%s, %s) ON CONFLICT DO NOTHING", text(mbox), text(uid)) == 1
      and not db:value("SELECT 1 FROM mail WHERE mbox = %s AND uid = %s", text(mbox), text(uid))
end

local function insert(db, mbox, message)
   local stored, pieces = 0, message.pieces
   for _, piece in ipairs(pieces) do
      stored = stored + #piece
   end
   local now = os.time()
   db:run("INSERT INTO mail (mbox, uid, octets, stored, delivered, flags, name) VALUES (%s, %s, %d, %d, %d, %s, %s)",
      text(mbox), text(message.uid or new_uid()), octets_of(pieces), stored, message.time or now,
      message.flags and text(message.flags) or "NULL", message.name and text(message.name) or "NULL")
   local id = first_id(math.tointeger(db:value("SELECT last_insert_rowid()")))
   for i, piece in ipairs(pieces) do
      db:run("INSERT INTO pieces VALUES (" .. id + i - 1 .. ", " .. literal(piece, "BLOB") .. ")")
   end
end

--- Adds messages, all or none: tables with `pieces` and, for one that is
-- imported, `uid`, `time`, `flags` and `name`; what was imported before is left out.
-- Returns how many were added; nil: there is no such user.
function store.put(mbox, file, messages)
   local db = open(file)
   return db:transaction(function()
      if not db:value("SELECT 1 FROM users WHERE name = %s", text(mbox)) then
         return nil
      end
      local added = 0
      for _, message in ipairs(messages) do
         if not message.uid or note_import(db, mbox, message.uid) then
            insert(db, mbox, message)
            added = added + 1
         end
      end
      return added
   end)
end

--- By the unique-ids that are there the messages' octets as sent; true by those that
-- were imported and are gone.
function store.known(mbox, file)
   local known, db = {}, open(file)
   for _, row in ipairs(db:rows("SELECT uid FROM imported WHERE mbox = %s", text(mbox))) do
      known[row[1]] = true
   end
   for _, row in ipairs(db:rows("SELECT uid, octets FROM mail WHERE mbox = %s", text(mbox))) do
      known[row[1]] = math.tointeger(tonumber(row[2]))
   end
   return known
end

--- A page of a maildrop's messages in order, for an export: each `{ number =,
-- uid =, time =, flags =, name = }`, without flags if it was not seen.
function store.list(mbox, file, after, count)
   local list = {}
   for i, row in ipairs(open(file):rows(
      "SELECT number, uid, delivered, flags, name FROM mail WHERE mbox = %s AND number > %d ORDER BY number LIMIT %d",
      text(mbox), after, count)) do
      list[i] = {
         number = math.tointeger(row[1]), uid = row[2], time = math.tointeger(row[3]), flags = row[4], name = row[5],
      }
   end
   return list
end

return store
