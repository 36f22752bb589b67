--- What becomes of a Maildir's messages that a session deletes, and of its quota.
-- @module popd.maildirdeletion
local core = require("popd.core")
local fs = require("popd.fs")
local maildirsession = require("popd.maildirsession")

local base_of, flags_of, file_of = maildirsession.base_of, maildirsession.flags_of, maildirsession.file_of
local known_octets, with_path = maildirsession.known_octets, maildirsession.with_path

local maildirdeletion = {}

local SUBDIRS = { "new", "cur" }

-- Changes that one thread makes at a time.
local BATCH = 256

-- Whose messages Maildir++ does not count.
local TRASH = ".Trash"

-- Where a deleted message's file goes; false: nowhere.
local destinations = {
   unlink = function()
      return false
   end,
   flag = function(session, file)
      local flags = flags_of(file)
      if file:find("^cur/") and flags:find("T", 1, true) then
         return session.dir .. "/" .. file
      end
      local letters = {}
      for letter in (flags .. "T"):gmatch(".") do
         letters[#letters + 1] = letter
      end
      table.sort(letters) -- as Maildir wants them
      return ("%s/cur/%s:2,%s"):format(session.dir, base_of(file), table.concat(letters))
   end,
   folder = function(session, file)
      return ("%s/%s/cur/%s:2,%s"):format(session.dir, session.dele, base_of(file), (flags_of(file):gsub("T", "")))
   end,
}

local function destination(session, file)
   return (destinations[session.dele] or destinations.folder)(session, file)
end

local function is_folder(dele)
   return not destinations[dele]
end

-- Makes a folder as Maildir++ wants it, where there is none.
local function make_folder(dir)
   for _, sub in ipairs({ "", "/tmp", "/new", "/cur" }) do
      local ok, err, code = fs.mkdir(dir .. sub)
      if not ok and code ~= "EEXIST" then
         return nil, err
      end
   end
   local ok, err, code = fs.write(dir .. "/maildirfolder", "")
   if not ok and code ~= "EEXIST" then
      return nil, err
   end
   return true
end

-- Deletes a message by one of its names: true, or nil, the reason and the code.
local function delete_name(session, path)
   local to = destination(session, path:sub(#session.dir + 2))
   if to == path then
      return true
   end
   local results, reasons = fs.change({ path }, { to })
   if results[1] == true then
      return true
   end
   return nil, reasons[1], results[1] or nil
end

-- Deletes a message under every name that it has.  True also if it was gone
-- already.
local function delete(session, id)
   local deleted, err = with_path(session, id, function(path)
      return delete_name(session, path)
   end)
   if deleted == nil then
      return nil, err
   end
   for _, file in ipairs(session.links[id] or {}) do
      local ok, why, code = true, nil, nil
      if file ~= file_of(session, id) then
         ok, why, code = fs.unlink(session.dir .. "/" .. file)
      end
      if not ok and code ~= "ENOENT" then
         return nil, why
      end
   end
   session.gone[id] = true
   return true
end

-- Deletes messages that have one name each, in one thread's turn.  `rest` gets
-- those that are not to be had so.
local function delete_batch(session, ids, rest, fail)
   local froms, tos, of = {}, {}, {}
   for _, id in ipairs(ids) do
      local file = file_of(session, id)
      local to = destination(session, file)
      if session.gone[id] or session.unsure[id] or session.links[id] or to == session.dir .. "/" .. file then
         rest[#rest + 1] = id
      else
         froms[#froms + 1], tos[#tos + 1], of[#of + 1] = session.dir .. "/" .. file, to, id
      end
   end
   local results, reasons = fs.change(froms, tos)
   for i, result in ipairs(results) do
      if result == true then
         session.gone[of[i]] = true
      elseif result == "ENOENT" then
         rest[#rest + 1] = of[i]
      else
         fail(of[i], reasons[i])
      end
   end
end

local function sync(session)
   local subs = is_folder(session.dele) and { session.dele .. "/cur", "new", "cur" } or SUBDIRS
   for _, sub in ipairs(subs) do
      local ok, err, code = fs.fsync(session.dir .. "/" .. sub)
      if not ok and code ~= "ENOENT" then
         return nil, err
      end
   end
   return true
end

-- Quota ---------------------------------------------------------------------

-- What Maildir++ counts of a message: the octets of its file; nothing of one
-- that is in the trash already.
local function counted_octets(session, id)
   local file = file_of(session, id)
   if session.gone[id] or flags_of(file):find("T", 1, true) then
      return nil
   end
   local told = math.tointeger(tonumber(base_of(file):match(",S=(%d+)%f[,\0]")))
   local _, stored = known_octets(session, id)
   return told or stored or fs.size(session.dir .. "/" .. file)
end

-- What is counted of messages that are about to be deleted, by id; nil: this
-- Maildir has no quota, or they go on counting.
local function count_quota(session, ids)
   local path = session.dir .. "/maildirsize"
   if is_folder(session.dele) and session.dele ~= TRASH or not fs.size(path) then
      return nil
   end
   local quota = { path = path }
   for _, id in ipairs(ids) do
      quota[id] = counted_octets(session, id)
   end
   return quota
end

-- One line for all, added by one write: others may add theirs meanwhile.
local function give_back(session, quota, ids)
   local octets_less, messages_less = 0, 0
   for _, id in ipairs(ids) do
      if session.gone[id] and quota[id] then
         octets_less, messages_less = octets_less + quota[id], messages_less + 1
      end
   end
   if messages_less == 0 then
      return
   end
   local ok, err, code = fs.append(quota.path, ("%d %d\n"):format(-octets_less, -messages_less))
   if not ok and code ~= "ENOENT" then
      core.log("warning", "a Maildir's quota is not told what was deleted", { reason = err })
   end
end

--- Deletes messages; one that another program has removed counts as deleted.
-- @tparam table session
-- @tparam table ids
-- @treturn boolean true, or nil, the first reason and the ids that are still there
function maildirdeletion.delete(session, ids)
   local left, reason = {}, nil
   if is_folder(session.dele) and ids[1] then
      local made, err = make_folder(session.dir .. "/" .. session.dele)
      if not made then
         return nil, err, ids
      end
   end
   local function fail(id, err)
      left[#left + 1], reason = id, reason or err
   end
   local quota = count_quota(session, ids)
   for first = 1, #ids, BATCH do
      local rest = {}
      delete_batch(session, table.move(ids, first, math.min(first + BATCH - 1, #ids), 1, {}), rest, fail)
      for _, id in ipairs(rest) do
         local ok, err = delete(session, id)
         if not ok then
            fail(id, err)
         end
      end
   end
   if quota then
      give_back(session, quota, ids)
   end
   local ok, err = sync(session)
   if ok and not reason then
      return true
   end
   table.sort(left)
   return nil, reason or err, left
end

return maildirdeletion
