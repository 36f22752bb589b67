-- Users, mail and locks in an SQLite database, through LuaSQL.
--
--     apt-get install lua-sql-sqlite3                 (or: luarocks install luasql-sqlite3)
--     popd-lua examples/sqlite.lua [FILE [PORT]]      (mail.db, 1110)
--     curl pop3://joe:secret@127.0.0.1:1110/
--
-- A query blocks whoever makes it, so the queries stand in a module of their
-- own, sqlite_store.lua, which threads load: each has a connection to the
-- database.  While one waits, the other clients are served.
local popd = require("popd")

-- The module is beside this script, wherever that was started.
package.path = (arg[0]:match("^(.*)/") or ".") .. "/?.lua;" .. package.path

local store = popd.thread("sqlite_store", { threads = 4 })
local port = math.tointeger(tonumber(arg[2] or 1110))

popd.new("sqlite", { port = port, auth = store, storage = store }):up()
popd.run()
