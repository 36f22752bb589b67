--- Maildrops kept in memory, for specs, demos and virtual maildrops.
--
-- The table that is given stays the owner's: what is appended to it, or taken
-- from it, shows in the next session; what a session deletes leaves it.
--
-- Unique-ids are made of a message's content and of how often this maildrop
-- has had that content before, so that identical messages differ, and the id
-- of a deleted one does not come back.  They last as long as the back end.
-- @module popd.memory
-- @usage
-- local maildrops = { ann = { "Subject: hi\r\n\r\nhello\r\n" } }
-- local server = popd.new { storage = memory.new(maildrops) }
-- table.insert(maildrops.ann, "Subject: more\n\nfor the next session\n")
local fs = require("popd.fs")

local memory = {}

local OPTIONS = { dele = "boolean" }

local function check(maildrops, options)
   if type(maildrops) ~= "table" then
      error("memory.new: a table of maildrops expected", 3)
   end
   for name, value in pairs(options) do
      if not OPTIONS[name] then
         error(("memory.new: unknown option '%s'; there is: dele"):format(tostring(name)), 3)
      elseif type(value) ~= OPTIONS[name] then
         error(("memory.new: option '%s' takes a %s"):format(name, OPTIONS[name]), 3)
      end
   end
end

-- A message that is no string is told from others by being another value.
local function mark_of(message)
   return type(message) == "string" and fs.sha256(message):sub(1, 40) or ("%p"):format(message):gsub("[^%w]", "")
end

-- What is remembered of one maildrop between sessions: its messages with their
-- unique-ids, and how often each content came.
local function new_record()
   return { entries = {}, times = {} }
end

local function new_entry(record, message)
   local mark = mark_of(message)
   local times = (record.times[mark] or 0) + 1
   record.times[mark] = times
   return { message = message, uid = ("%s.%d"):format(mark, times) }
end

-- The entries of the messages that are in the list now: those that were there
-- before keep theirs, in order.
local function update(record, messages)
   local known, entries = {}, {}
   for i = #record.entries, 1, -1 do
      local entry = record.entries[i]
      local same = known[entry.message] or {}
      known[entry.message] = same
      same[#same + 1] = entry
   end
   for i, message in ipairs(messages) do
      local same = known[message]
      entries[i] = same and table.remove(same) or new_entry(record, message)
   end
   record.entries = entries
   return entries
end

local function octets(message)
   if type(message) == "string" then
      return fs.octets_of(message)
   end
   return require("popd").octets(message)
end

--- Makes a storage back end.
-- @tparam table maildrops lists of messages, by maildrop name; a name that is
-- absent is an empty maildrop.  A message is a string, or another message
-- handle that can be read more than once (`{ path = }`, `{ headers =, body = }`)
-- @tparam[opt] table options `dele = false`: messages cannot be deleted
-- @treturn table the storage functions
-- @usage popd.new { storage = memory.new { ann = { "Subject: hi\r\n\r\nhello\r\n" } } }
function memory.new(maildrops, options)
   options = options or {}
   check(maildrops, options)
   local records, sessions, storage = {}, {}, {}

   local function entry_of(name, id)
      local entries = sessions[name]
      local entry = entries and entries[id]
      if not entry then
         error(entries and ("no message %s"):format(id) or ("maildrop '%s' is not locked"):format(name), 3)
      end
      return entry
   end

   local function entries_of(name)
      return sessions[name] or error(("maildrop '%s' is not locked"):format(name), 3)
   end

   --- Claims a maildrop for one session.
   -- @string name
   -- @treturn boolean false while another session has it
   function storage.lock(name)
      if sessions[name] then
         return false
      end
      records[name] = records[name] or new_record()
      sessions[name] = update(records[name], maildrops[name] or {})
      return true
   end

   --- Gives it back.
   -- @string name
   function storage.unlock(name)
      sessions[name] = nil
   end

   --- Counts the messages.
   -- @string name
   -- @treturn integer
   function storage.stat(name)
      return #entries_of(name)
   end

   --- Octets as sent, of one message or of all.
   -- @string name
   -- @int[opt] id
   -- @treturn integer
   function storage.size(name, id)
      if id then
         return octets(entry_of(name, id).message)
      end
      local total = 0
      for _, entry in ipairs(entries_of(name)) do
         local n, err = octets(entry.message)
         if not n then
            return nil, err
         end
         total = total + n
      end
      return total
   end

   --- A message.
   -- @string name
   -- @int id
   -- @return what the list holds
   function storage.get(name, id)
      return entry_of(name, id).message
   end

   --- A message's unique-id.
   -- @string name
   -- @int id
   -- @treturn string
   function storage.uidl(name, id)
      return entry_of(name, id).uid
   end

   --- Sizes and unique-ids in one call.
   -- @string name
   -- @treturn table sizes
   -- @treturn table unique-ids
   function storage.scan(name)
      local sizes, uids = {}, {}
      for i, entry in ipairs(entries_of(name)) do
         sizes[i] = type(entry.message) == "string" and octets(entry.message)
         uids[i] = entry.uid
      end
      return sizes, uids
   end

   --- Takes messages from the owner's list; one that the owner took out
   -- meanwhile is deleted already.
   -- @string name
   -- @tparam table ids
   -- @treturn boolean true
   function storage.dele(name, ids)
      local doomed, messages = {}, maildrops[name] or {}
      for _, id in ipairs(ids) do
         doomed[entry_of(name, id)] = true
      end
      local entries = update(records[name], messages)
      for i = #entries, 1, -1 do
         if doomed[entries[i]] then
            table.remove(messages, i)
            table.remove(entries, i)
         end
      end
      return true
   end

   if options.dele == false then
      storage.dele = nil
   end
   return storage
end

return memory
