-- A virtual mailbox, made on the fly: a news feed that is read with a mail
-- program.  No message is stored anywhere; each one is composed of an entry of
-- the feed when a client asks for it.
--
--     popd-lua examples/feed.lua [FILE [PORT]]        (examples/feed.txt, 1110)
--     curl pop3://ann:news@127.0.0.1:1110/1
--
-- The file holds entries of fields and a text, with a line "--" between two:
--
--     id: 2026-003
--     date: 2026-01-31
--     title: A new release
--
--     The text, as many lines as it takes.
--
-- It is read anew at each login, so what is added to it shows up next time.
-- What a reader deletes is not shown to that reader again, until the program ends.
local popd = require("popd")

local file, port = arg[1] or "examples/feed.txt", math.tointeger(tonumber(arg[2] or 1110))
local readers = { ann = "news", joe = "news" }
local deleted = { ann = {}, joe = {} } -- ids, by reader

local function parse(text)
   local fields, body = text:match("^\n*(.-)\n\n(.*)$")
   local entry = { body = body }
   for name, value in (fields or ""):gmatch("(%l+): *([^\n]*)") do
      entry[name] = value
   end
   return entry.id and entry.id:find("^[!-~]+$") and #entry.id <= 70 and entry or nil
end

local function read_feed()
   local text, err = popd.fs.read(file)
   if not text then
      return nil, err
   end
   local entries = {}
   for part in (text:gsub("\r\n", "\n") .. "\n--\n"):gmatch("(.-)\n%-%-\n") do
      entries[#entries + 1] = parse(part)
   end
   return entries
end

-- A field of a file must not end its line early.
local function one_line(value)
   return (value or ""):gsub("%c", " ")
end

local function message(entry)
   return {
      headers = {
         { "From", "The feed <feed@example.org>" },
         { "Date", one_line(entry.date) },
         { "Subject", one_line(entry.title) },
         { "Message-ID", "<" .. entry.id .. "@feed.example.org>" },
         { "Content-Type", "text/plain; charset=utf-8" },
      },
      body = entry.body,
   }
end

-- What lookup returns is what the other functions get: a table of the session's
-- own, in which lock fixes the entries that the session sees.
local auth, storage = {}, {}

function auth.lookup(name)
   if readers[name] then
      return readers[name], { reader = name, entries = {} }
   end
end

function storage.lock(session)
   local entries, err = read_feed()
   if not entries then
      return nil, err -- a fault: the log has it, the client reads "try again later"
   end
   for _, entry in ipairs(entries) do
      if not deleted[session.reader][entry.id] then
         table.insert(session.entries, entry)
      end
   end
   return true -- any number of sessions may read the same feed
end

function storage.unlock() end

function storage.stat(session)
   return #session.entries
end

function storage.size(session, id)
   if id then
      return popd.octets(message(session.entries[id]))
   end
   local total = 0
   for each in ipairs(session.entries) do
      total = total + storage.size(session, each)
   end
   return total
end

function storage.uidl(session, id)
   return session.entries[id].id
end

function storage.get(session, id)
   return message(session.entries[id])
end

function storage.dele(session, ids)
   for _, id in ipairs(ids) do
      deleted[session.reader][session.entries[id].id] = true
   end
   return true
end

popd.new("feed", { port = port, auth = auth, storage = storage }):up()
popd.run()
