--- Lists of Maildirs that no session has open, kept for the next one: a client that asks
-- for new mail every few minutes mostly finds the Maildir as it left it, and then nothing is read.
--
-- A list is good as long as its Maildir's directories have not changed (`core.mail.is_current`).
-- A message that somebody writes to in place, against all rules of Maildir, changes none of them:
-- for that, lists become old. Until then a client that fetches such a message is told so.
-- @module popd.shelf
local core = require("popd.core")

local mail = core.mail

local shelf = {}

local MOST = 16 << 20 -- octets, of all lists together
local AGE = 900 -- seconds

local kept = {} -- by key: { list =, octets =, at =, since = }
local keys = {} -- by place: those that were put first have the lowest
local first, last, octets = 1, 0, 0

local function take_off(key)
   local one = kept[key]
   kept[key], keys[one.at] = nil, nil
   octets = octets - one.octets
   while first <= last and not keys[first] do
      first = first + 1
   end
   return one
end

--- Takes a list off the shelf.
-- @string key
-- @string dir the Maildir
-- @treturn userdata the list, which is the caller's; nil: there is none, or it is not good any more
-- @treturn integer since when the shelf has known it, for `put`
function shelf.take(key, dir)
   local one = kept[key] and take_off(key)
   if not one then
      return nil
   elseif os.time() - one.since < AGE and mail.is_current(one.list, dir) then
      return one.list, one.since
   end
   mail.close(one.list)
   return nil
end

--- Gives a list away: to the shelf, if it may be kept; the longest unused ones make room.
-- @string key
-- @tparam userdata list
-- @tparam[opt] integer since what `take` returned, if it comes from there
function shelf.put(key, list, since)
   local size = mail.keep(list)
   if kept[key] then
      mail.close(take_off(key).list)
   end
   if not size or size > MOST then
      mail.close(list)
      return
   end
   last, octets = last + 1, octets + size
   kept[key], keys[last] = { list = list, octets = size, at = last, since = since or os.time() }, key
   while octets > MOST do
      mail.close(take_off(keys[first]).list)
   end
end

return shelf
