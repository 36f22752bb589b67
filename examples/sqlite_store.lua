-- What threads do for sqlite.lua: a back end over LuaSQL, which blocks.
--
-- What it shows: a back end with `scan`; deleting in one transaction; a lock
-- that is a lease: a row that names its owner and ends by itself, unless
-- `renew` prolongs it.  So the lock of a program that was killed is free again
-- after LEASE seconds, and any number of threads and processes share the
-- database.
--
-- From lock to unlock a session stays on one thread, so what belongs to it can
-- stand in a table here, by the connection's id.
local popd = require("popd")
local driver = require("luasql.sqlite3").sqlite3()

local file = arg[1] or "mail.db"
local LEASE = 60 -- seconds; renewed every renew_interval
local BUSY = 10000 -- milliseconds that one thread waits for another to commit

local db = assert(driver:connect(file))

-- SQL -----------------------------------------------------------------------

-- Values go into SQL as hex digits: no quotes to get wrong, and no octet is special.
local function hex(value)
   return (value:gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end))
end

local function text(value)
   return ("CAST(x'%s' AS TEXT)"):format(hex(value))
end

local function blob(value)
   return ("x'%s'"):format(hex(value))
end

-- Runs a statement; how many rows it changed.  What fails raises: for the
-- server that is a fault, logged, and the client reads "try again later".
local function run(sql, ...)
   return assert(db:execute(sql:format(...)))
end

-- All rows of a query, each an array.
local function rows(sql, ...)
   local cursor, list = run(sql, ...), {}
   local row = cursor:fetch({}, "n")
   while row do
      list[#list + 1] = row
      row = cursor:fetch({}, "n")
   end
   cursor:close()
   return list
end

-- All of f's changes, or none.
local function transaction(f)
   run("BEGIN IMMEDIATE")
   local ok, err = pcall(function()
      f()
      run("COMMIT")
   end)
   if not ok then
      db:execute("ROLLBACK")
      error(err, 0)
   end
end

-- The database ----------------------------------------------------------------

local schema = {
   "CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL)",
   -- AUTOINCREMENT: the number of a deleted message is never given again
   "CREATE TABLE IF NOT EXISTS mail (number INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, "
      .. "octets INTEGER NOT NULL, message BLOB NOT NULL)",
   "CREATE INDEX IF NOT EXISTS mail_user ON mail (user, number)",
   "CREATE TABLE IF NOT EXISTS leases (user TEXT PRIMARY KEY, owner TEXT NOT NULL, ends REAL NOT NULL)",
}

-- Puts a message into a maildrop; `octets` is its size as POP3 sends it.
local function deliver(user, message)
   run("INSERT INTO mail (user, octets, message) VALUES (%s, %d, %s)", text(user), popd.octets(message), blob(message))
end

local function prepare()
   rows("PRAGMA busy_timeout = %d", BUSY)
   transaction(function()
      for _, statement in ipairs(schema) do
         run(statement)
      end
      if rows("SELECT count(*) FROM users")[1][1] == 0 then -- something to try it with
         run("INSERT INTO users VALUES ('joe', 'secret')")
         deliver("joe", "Subject: one\n\nFrom the database.\n")
         deliver("joe", "Subject: two\n\n.a dot, and no line end")
      end
   end)
end

prepare()

-- The back end ----------------------------------------------------------------

local store = {}

function store.lookup(name)
   local row = rows("SELECT password FROM users WHERE name = %s", text(name))[1]
   if row then
      return "{PLAIN}" .. row[1], name
   end
end

local sessions = {} -- connection's id -> { message id -> number in the database }

-- Who holds a lease: this thread and this connection.
local thread = ("%016x"):format(math.random(0))

local function owner(conn)
   return ("%s.%d"):format(thread, conn.id)
end

-- Takes the lease if nobody has it or its time is up: one statement, so that
-- two who try at once cannot both get it.
function store.lock(user, conn)
   local now = os.time()
   local changed = run(
      "INSERT INTO leases VALUES (%s, %s, %d) ON CONFLICT (user) DO UPDATE SET owner = excluded.owner, "
         .. "ends = excluded.ends WHERE ends < %d",
      text(user), text(owner(conn)), now + LEASE, now)
   if changed ~= 1 then
      return false
   end
   sessions[conn.id] = {}
   return true
end

-- Prolongs our own lease; false if it is not ours any more: then nothing is deleted.
function store.renew(user, conn)
   return run("UPDATE leases SET ends = %d WHERE user = %s AND owner = %s", os.time() + LEASE, text(user),
      text(owner(conn))) == 1
end

function store.unlock(user, conn)
   sessions[conn.id] = nil
   run("DELETE FROM leases WHERE user = %s AND owner = %s", text(user), text(owner(conn)))
end

-- Sizes and unique-ids of all messages, in one query.
function store.scan(user, conn)
   local sizes, uids, numbers = {}, {}, sessions[conn.id]
   for i, row in ipairs(rows("SELECT number, octets FROM mail WHERE user = %s ORDER BY number", text(user))) do
      numbers[i], sizes[i], uids[i] = row[1], math.tointeger(row[2]), ("%d"):format(row[1])
   end
   return sizes, uids
end

-- The message, or nil: somebody else has removed it.
function store.get(_, id, conn)
   local row = rows("SELECT message FROM mail WHERE number = %d", sessions[conn.id][id])[1]
   return row and row[1]
end

-- All of them or none.  The lease is looked at in the same transaction: nobody
-- can take it in between.
function store.dele(user, ids, conn)
   transaction(function()
      assert(store.renew(user, conn), "the lease has run out")
      for _, id in ipairs(ids) do
         run("DELETE FROM mail WHERE user = %s AND number = %d", text(user), sessions[conn.id][id])
      end
   end)
   return true
end

return store
