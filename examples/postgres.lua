-- Users, mail and locks in a PostgreSQL database, through LuaSQL.
--
--     apt-get install lua-sql-postgres                        (or: luarocks install luasql-postgres)
--     popd-lua examples/postgres.lua [DATABASE [PORT]]        ("dbname=mail", 1110)
--     curl pop3://joe:secret@127.0.0.1:1110/
--
-- DATABASE is a connection string: "host=db.example.org dbname=mail user=popd".
-- Any number of programs, on any number of machines, may share the database.
--
-- A query blocks whoever makes it, so the queries stand in a module of their
-- own, postgres_store.lua, which threads load: each has a connection to the
-- database.  As many queries as threads run at a time; the others wait, and no
-- client waits for another one's.
local popd = require("popd")

-- The module is beside this script, wherever that was started.
package.path = (arg[0]:match("^(.*)/") or ".") .. "/?.lua;" .. package.path

local store = popd.thread("postgres_store", { threads = 8 })
local port = math.tointeger(tonumber(arg[2] or 1110))

popd.new("postgres", { port = port, auth = store, storage = store }):up()
popd.run()
