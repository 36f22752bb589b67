-- Users, mail and locks in one SQLite file, by popd.sqlite.
--
--     apt-get install lua-sql-sqlite3                 (or: luarocks install luasql-sqlite3)
--     popd-lua examples/sqlite.lua [FILE [PORT]]      (mail.db, 1110)
--     curl pop3://joe:secret@127.0.0.1:1110/
--     popd-lua deliver --store sqlite:mail.db joe <message
--
-- What it adds: mail whose deletion is kept for a while. `dele` is replaced by one
-- that first puts copies of the messages into the mail of another user, `trash`.
local popd = require("popd")
local sqlite = require("popd.sqlite")

local port = math.tointeger(tonumber(arg[2] or 1110))
local store = sqlite.new { file = arg[1] or "mail.db" }

if #assert(store.users()) == 0 then -- something to try it with
   assert(store.add("joe", assert(popd.scheme.make("SCRAM-SHA-256", "secret"))))
   assert(store.add("trash", assert(popd.scheme.make("SCRAM-SHA-256", "old mail"))))
   assert(store.deliver("joe", "Subject: one\n\nFrom the database.\n"))
   assert(store.deliver("joe", "Subject: two\n\n.a dot, and no line end"))
end

local delete = store.dele

-- Copies first: what fails leaves a copy too many, never a message too few.
function store.dele(mbox, ids, conn)
   for _, id in ipairs(mbox ~= "trash" and ids or {}) do
      local message = store.get(mbox, id, conn)
      if message then
         assert(store.deliver("trash", message, { to = mbox }))
      end
   end
   return delete(mbox, ids, conn)
end

popd.new("sqlite", { port = port, auth = store, storage = store }):up()
popd.run()
