--- A session's messages in a Maildir: which there are, what they are called now, how big
-- they are, and what is kept of all that for the next session.
-- @module popd.maildirsession
local core = require("popd.core")
local fs = require("popd.fs")
local shelf = require("popd.shelf")

local mail = core.mail

local maildirsession = {}

-- An index is written when it saves the next session so much.
local LESSONS, LESSONS_OCTETS = 1000, 1 << 20

-- Seconds of a login for a first look at very many files on a slow disk: what is
-- left then is looked at when it is asked for.
local PATIENCE = 5

local DAY = 86400

-- What is noted of single messages, by number: made when it is asked for, since
-- most sessions rest without.
local NOBODY = {}
local NOTES = { files = true, octets = true, stored = true, links = true, twins = true, gone = true, unsure = true }

-- The metatable of a storage's sessions; `shared` has what is the same for all.
local function class_of(shared)
   return {
      __index = function(session, name)
         if NOTES[name] then
            session[name] = {}
            return rawget(session, name)
         end
         return shared[name]
      end,
   }
end

local function base_of(file)
   return file:match("^%l+/([^:]*)")
end

local function flags_of(file)
   return file:match(":2,([^:]*)$") or ""
end

-- Tells files of one base name apart: by inode and time, which renaming keeps.
local function identify(dir, file)
   local st, err, code = fs.stat(dir .. "/" .. file)
   if st then
      return ("%d:%d:%.9f"):format(st.dev, st.ino, st.mtime)
   end
   if code == "ENOENT" then
      return false
   end
   return nil, err
end

-- Sorts files of one base name into messages: a list of { id =, names }.
-- A message that is being moved may have two names for a moment.
local function tell_apart(dir, same)
   local messages, by_id = {}, {}
   for _, file in ipairs(same) do
      local id, err = identify(dir, file)
      if id == nil then
         return nil, err
      end
      if id and not by_id[id] then
         by_id[id] = { id = id }
         messages[#messages + 1] = by_id[id]
      end
      if id then
         table.insert(by_id[id], file)
      end
   end
   return messages
end

-- Sorts the listed files of one base name into messages.  `kept` gets those that
-- stand for a message, by number: its names, and what tells it from its twins;
-- `dropped` the numbers of the others.
local function sort_same(session, numbers, kept, dropped)
   local files, number_of = {}, {}
   for i, number in ipairs(numbers) do
      files[i] = mail.file(session.list, number)
      number_of[files[i]] = number
   end
   local messages, err = tell_apart(session.dir, files)
   if not messages then
      return nil, err
   end
   local stays = {}
   for _, message in ipairs(messages) do
      local number = number_of[message[#message]]
      stays[number] = true
      kept[number] = { names = message[2] and message, twin = messages[2] and message.id }
   end
   for _, number in ipairs(numbers) do
      if not stays[number] then
         dropped[#dropped + 1] = number
      end
   end
   return true
end

-- How many of an ascending list are below a number.
local function count_below(list, number)
   local from, to = 1, #list + 1
   while from < to do
      local mid = (from + to) // 2
      if list[mid] < number then
         from = mid + 1
      else
         to = mid
      end
   end
   return from - 1
end

-- Takes dropped ones off the list.  Returns how a number changes by that; nil:
-- it is not shown.
local function narrow(session, dropped, newest)
   table.sort(dropped)
   if dropped[1] then
      mail.remove(session.list, dropped)
   end
   local hidden = newest and math.max(0, mail.count(session.list) - newest) or 0
   if hidden > 0 then
      mail.keep_last(session.list, newest)
   end
   return function(number)
      local id = number - count_below(dropped, number) - hidden
      return id > 0 and id or nil
   end
end

-- Puts the messages into the order that a list of unique-ids has for them.
-- Returns how a number changes by that.
local function arrange(session, known)
   local names, id_of = {}, {}
   for number = 1, mail.count(session.list) do
      names[number] = mail.base(session.list, number)
   end
   local order = known:arrange(names)
   mail.arrange(session.list, order)
   for id, number in ipairs(order) do
      id_of[number] = id
   end
   return function(number)
      return id_of[number]
   end
end

-- What a list of the shelf is found by.
local function key_of(session)
   return session.dir .. session.marks
end

-- Takes the list of the session before, if there is one and nothing has changed since.
local function reopen(session)
   session.list, session.since = shelf.take(key_of(session), session.dir)
   return session.list ~= nil
end

-- Reads the Maildir: fixes the session's messages, and their order.
local function open(session, options, known)
   local list, err = mail.scan(session.dir, {
      mtime = options.order == "mtime",
      hide_trashed = options.dele == "flag",
      patience = PATIENCE,
      since = options.days and os.time() - math.floor(options.days * DAY),
   })
   if not list then
      return nil, err
   end
   session.list = list
   local kept, dropped = {}, {}
   for _, numbers in ipairs(mail.same(list) or {}) do
      local ok
      ok, err = sort_same(session, numbers, kept, dropped)
      if not ok then
         return nil, err
      end
   end
   local number_of = narrow(session, dropped, options.newest)
   local id_of = known.order and arrange(session, known) or function(number)
      return number
   end
   for listed, one in pairs(kept) do
      local number = number_of(listed)
      local id = number and id_of(number)
      if id then
         session.links[id], session.twins[id] = one.names or nil, one.twin or nil
      end
   end
   return true
end

-- What stays with each message: its base name, and what tells it from a twin.
local function names_of(session)
   local names = {}
   for id = 1, mail.count(session.list) do
      local base, twin = mail.base(session.list, id), session.twins[id]
      names[id] = twin and base .. "\0" .. twin or base
   end
   return names
end

-- What a message is called now.
local function file_of(session, id)
   return session.files[id] or session.now and mail.file(session.now, id) or mail.file(session.list, id)
end

-- What a message is called now, of the files that have its base name.
-- Returns a list of names, or nil and why it cannot be told.
local function names_among(session, id, found)
   local twin = session.twins[id]
   if not found[2] and not twin then
      return found
   end
   local messages, err = tell_apart(session.dir, found)
   if not messages then
      return nil, err
   end
   for _, message in ipairs(messages) do
      if message.id == twin or not twin and not messages[2] then
         return message
      end
   end
   if twin or not messages[1] then
      return {}
   end
   return nil, ("%s: other messages of the same name have come"):format(file_of(session, id))
end

-- Takes the new name of one message.  Returns whether it has one.
local function follow(session, id, found)
   local names, err = names_among(session, id, found)
   if not names then
      session.unsure[id] = err
      return true
   end
   session.unsure[id] = nil
   session.links[id] = names[2] and names
   if names[1] then
      session.files[id] = names[#names]
   end
   return names[1] ~= nil
end

-- What the list itself knows of messages that have one name each.
local function follow_plain(session, several)
   local among = {}
   for _, id in ipairs(several) do
      among[id] = true
   end
   for _, map in ipairs({ session.files, session.links, session.unsure }) do
      for id in pairs(map) do
         if not among[id] and mail.file(session.now, id) then
            map[id] = nil
         end
      end
   end
end

-- Finds out what every message is called now.  A scan may miss a name that
-- changes while it runs; what two scans miss is gone.
local function find_again(session)
   local before = {}
   for _ = 1, 2 do
      local now, err = mail.scan(session.dir, { names_only = true })
      if not now then
         return nil, err
      end
      local missing, several = mail.follow(session.list, now)
      local missed = {}
      if session.now then
         mail.close(session.now)
      end
      session.now = now
      follow_plain(session, several)
      for _, id in ipairs(several) do
         if not session.gone[id] and not follow(session, id, mail.files_of(now, mail.base(session.list, id))) then
            missing[#missing + 1] = id
         end
      end
      for _, id in ipairs(missing) do
         if not session.gone[id] then
            missed[id] = true
            session.gone[id], session.unsure[id] = before[id], nil
         end
      end
      if not next(missed) then
         break
      end
      before = missed
   end
   return true
end

-- Calls f(path) with the path of a message, and again with another if the file
-- is not called so any more.  Returns f's results; or false: the message is
-- gone; or nil and the reason.
local function with_path(session, id, f)
   for _ = 1, 3 do
      if session.gone[id] then
         return false
      elseif session.unsure[id] then
         return nil, session.unsure[id]
      end
      local result, err, code = f(session.dir .. "/" .. file_of(session, id))
      if result or code ~= "ENOENT" then
         return result, err
      end
      local ok
      ok, err = find_again(session)
      if not ok then
         return nil, err
      end
   end
   return nil, ("%s: renamed again and again"):format(file_of(session, id))
end

-- Where the unique-ids are the names, a list has them already, but for twins.
local function identify_twins(session)
   for id, twin in pairs(rawget(session, "twins") or NOBODY) do
      mail.set_uid(session.list, id, fs.sha256(mail.base(session.list, id) .. "\0" .. twin))
   end
end

-- Gives the messages their unique-ids.
local function identify_all(session, known, scheme)
   local names = names_of(session)
   local ids = known:ids(names, function(id)
      return with_path(session, id, fs.read)
   end)
   local seen, refused = scheme:watch(session.dir, names, ids)
   if not seen then
      error(refused, 0)
   end
   for id, unique_id in ipairs(ids) do
      if mail.uid(session.list, id) ~= unique_id then
         mail.set_uid(session.list, id, unique_id)
      end
   end
   session.names, session.ids, session.seen = names, ids, seen
end

-- Octets as sent, and as stored; nil: not known yet.
local function known_octets(session, id)
   local sent, stored = mail.size(session.list, id)
   return sent or session.octets[id], stored or session.stored[id]
end

-- A message's octets as sent; counted once a session.  One that has gone
-- before it was counted, or cannot be read, has none: fetching it is what
-- fails, and the others are served.
local function octets(session, id)
   local n = known_octets(session, id)
   if n then
      return n
   end
   local stored
   local sent, err = with_path(session, id, function(path)
      local octets_sent, second, code = mail.measure(session.list, session.now, session.dir, id, path)
      stored = octets_sent and second
      return octets_sent, second, code
   end)
   if sent == nil then
      core.log("warning", "a message of a Maildir cannot be read; it is told to have no octets", { reason = err })
   end
   if not mail.size(session.list, id) then
      session.octets[id], session.stored[id] = sent or 0, stored or nil
   end
   return sent or 0
end

-- Tells the index what this session has learned, if that is worth it.
local function remember(session)
   local learned, cost, stale, wrong = mail.lessons(session.list)
   if wrong or learned >= LESSONS or cost >= LESSONS_OCTETS
      or stale > math.max(LESSONS, mail.count(session.list)) then
      mail.remember(session.list, session.dir)
   end
end

local function close(session)
   local gone = rawget(session, "gone")
   if session.since ~= nil and not (gone and next(gone)) then
      shelf.put(key_of(session), session.list, session.since or nil)
   else
      mail.close(session.list)
   end
   if session.now then
      mail.close(session.now)
   end
end

maildirsession.class_of = class_of
maildirsession.base_of = base_of
maildirsession.flags_of = flags_of
maildirsession.reopen = reopen
maildirsession.open = open
maildirsession.file_of = file_of
maildirsession.with_path = with_path
maildirsession.identify_twins = identify_twins
maildirsession.identify_all = identify_all
maildirsession.known_octets = known_octets
maildirsession.octets = octets
maildirsession.remember = remember
maildirsession.close = close

return maildirsession
