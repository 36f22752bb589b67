-- What threads do for postgres.lua: a back end over LuaSQL, which blocks.
--
-- What it shows: a lock that is the database's own (an advisory lock of the
-- database session), so that the lock of a program that was killed is free at
-- once; and what to do when the database goes away and comes back.
--
-- Such a lock belongs to a connection to the database.  It works here because
-- all calls from lock to unlock come to one thread, which has one connection.
local popd = require("popd")
local driver = require("luasql.postgres").postgres()

local database = arg[1] or "dbname=mail"
local LOCKS = 1110 -- the first half of our locks' numbers: other programs may have locks, too

-- The connection ----------------------------------------------------------------

local db -- nil: to be made
local held = {} -- user's id -> { message id -> number in the database }, while his lock is ours

local schema = {
   "CREATE TABLE IF NOT EXISTS users (id serial PRIMARY KEY, name text UNIQUE NOT NULL, password text NOT NULL)",
   -- the number of a deleted message is never given again
   "CREATE TABLE IF NOT EXISTS mail (number bigserial PRIMARY KEY, owner integer NOT NULL REFERENCES users, "
      .. "octets bigint NOT NULL, message bytea NOT NULL)",
   "CREATE INDEX IF NOT EXISTS mail_owner ON mail (owner, number)",
}

local function rows_of(cursor)
   local list = {}
   local row = cursor:fetch({}, "n")
   while row do
      list[#list + 1] = row
      row = cursor:fetch({}, "n")
   end
   cursor:close()
   return list
end

-- One value of a new connection's.
local function ask(new, sql)
   return rows_of(assert(new:execute(sql)))[1][1]
end

local function bytea(value)
   return ("'\\x%s'"):format((value:gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end)))
end

-- Makes what is missing, and something to try it with.  One at a time: threads
-- that start together would stand in each other's way.
local function prepare(new)
   assert(new:execute("BEGIN"))
   ask(new, ("SELECT pg_advisory_xact_lock(%d, 0)"):format(LOCKS))
   for _, statement in ipairs(schema) do
      assert(new:execute(statement))
   end
   if math.tointeger(ask(new, "SELECT count(*) FROM users")) == 0 then
      local joe = math.tointeger(ask(new, "INSERT INTO users (name, password) VALUES ('joe', 'secret') RETURNING id"))
      for _, message in ipairs { "Subject: one\n\nFrom the database.\n", "Subject: two\n\n.a dot, and no line end" } do
         assert(new:execute(("INSERT INTO mail (owner, octets, message) VALUES (%d, %d, %s)"):format(joe,
            popd.octets(message), bytea(message))))
      end
   end
   assert(new:execute("COMMIT"))
end

-- Connects at the first call, not when the module is loaded: then the server
-- starts also where the database does not, and has given up root's rights.
local function connect()
   local new = assert(driver:connect(database))
   assert(new:execute("SET client_min_messages = warning"))
   local ok, why = pcall(prepare, new)
   if not ok then
      new:close()
      error(why, 0)
   end
   db = new
end

-- After a statement that failed: whether the database went away.  Then our locks
-- are gone as well.
local function is_lost()
   if db:execute("SELECT 1") then
      return false
   end
   pcall(db.close, db)
   db, held = nil, {}
   return true
end

-- SQL ---------------------------------------------------------------------------

-- A value as a literal.  nil: it is no text that the database could hold.
local function text(value)
   if not utf8.len(value) or value:find("\0", 1, true) then
      return nil
   end
   return "'" .. db:escape(value) .. "'"
end

-- Runs a statement of the present connection.  What fails raises: for the server
-- that is a fault, logged, and the client reads "try again later".
local function run(sql, ...)
   return assert(db:execute(sql:format(...)))
end

-- Calls f, which asks the database something.  Once more, if the database went
-- away since the last call and is there again: nobody need notice.
local function try(f, ...)
   if not db then
      connect()
   end
   local results = table.pack(pcall(f, ...))
   if not results[1] and is_lost() then
      connect()
      return f(...)
   elseif not results[1] then
      error(results[2], 0)
   end
   return table.unpack(results, 2, results.n)
end

local function rows(sql, ...)
   return rows_of(run(sql, ...))
end

-- The back end --------------------------------------------------------------------

local store = {}

-- A user's mbox is his number.
local function find(name)
   local literal = text(name)
   local row = literal and rows("SELECT password, id FROM users WHERE name = %s", literal)[1]
   if row then
      return "{PLAIN}" .. row[1], math.tointeger(tonumber(row[2]))
   end
end

function store.lookup(name)
   return try(find, name)
end

local function take(user)
   return rows("SELECT pg_try_advisory_lock(%d, %d)", LOCKS, user)[1][1] == "t"
end

-- A database session may take its own lock again, so this looks first: a second
-- login of a user comes to the thread that has his lock.
function store.lock(user)
   if held[user] or not try(take, user) then
      return false
   end
   held[user] = {}
   return true
end

local function is_held(user)
   return held[user] ~= nil and rows("SELECT 1") ~= nil
end

-- False if the connection that had the lock is gone: then nothing is deleted.
function store.renew(user)
   return try(is_held, user)
end

local function give_back(user)
   run("SELECT pg_advisory_unlock(%d, %d)", LOCKS, user):close()
end

function store.unlock(user)
   if held[user] then
      held[user] = nil
      try(give_back, user)
   end
end

-- What belongs to the session that has this user's lock.
local function session(user)
   return assert(held[user], "the database went away, and the lock with it")
end

local function list(user)
   session(user)
   return rows("SELECT number, octets FROM mail WHERE owner = %d ORDER BY number", user)
end

-- Sizes and unique-ids of all messages, in one query.
function store.scan(user)
   local sizes, uids, numbers = {}, {}, {}
   for i, row in ipairs(try(list, user)) do
      numbers[i], sizes[i], uids[i] = row[1], math.tointeger(tonumber(row[2])), row[1]
   end
   held[user] = numbers
   return sizes, uids
end

local function read(user, id)
   return rows("SELECT encode(message, 'hex') FROM mail WHERE owner = %d AND number = %s", user, session(user)[id])[1]
end

-- The message, or nil: somebody else has removed it.
function store.get(user, id)
   local row = try(read, user, id)
   return row and (row[1]:gsub("%x%x", function(digits)
      return string.char(tonumber(digits, 16))
   end))
end

-- All of them or none: one statement is one transaction.  Never tried again: a
-- new connection would not have the lock.
function store.dele(user, ids)
   local numbers = {}
   for i, id in ipairs(ids) do
      numbers[i] = session(user)[id]
   end
   run("DELETE FROM mail WHERE owner = %d AND number IN (%s)", user, table.concat(numbers, ", "))
   return true
end

return store
