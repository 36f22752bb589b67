-- A POP3 server in ten lines: one user, one message, all in memory.
--
--     popd-lua examples/ten_lines.lua [PORT]          (or lua5.4, with the module installed)
--     curl pop3://joe:secret@127.0.0.1:1110/1
local popd, memory = require("popd"), require("popd.memory")
local users = { joe = "secret" }
local mail = { joe = { "From: ann@example.org\nSubject: hello\n\nYour first message.\n" } }

local function lookup(name)
   return users[name], users[name] and name -- password, and what the storage knows the maildrop by
end

popd.new({ port = tonumber(arg[1] or 1110), auth = { lookup = lookup }, storage = memory.new(mail) }):up()
popd.run()
