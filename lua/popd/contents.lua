--- What a maildrop holds: the count, sizes and unique-ids, as a storage tells
-- them or as its messages do.
-- @module popd.contents
local ask_module = require("popd.ask")
local core = require("popd.core")
local handle = require("popd.handle")
local lists = require("popd.lists")

local ask, fault, is_fault, wrong = ask_module.ask, ask_module.fault, ask_module.is_fault, ask_module.wrong

local contents = {}

local function is_count(value)
   return math.type(value) == "integer" and value >= 0
end

local function octets_of(n)
   return is_count(n) and n or type(n) == "number" and n >= 0 and math.tointeger(n) or nil
end

--- A message's octets.  A lone nil of the storage: the message is gone, and its
-- size does not matter any more.
function contents.octets(conn, st, id)
   local storage = st.storage
   if storage.size then
      local n = ask(conn, "storage.size", storage.size, st.mbox, id, conn)
      if is_fault(n) then
         return n
      end
      return n and (octets_of(n) or wrong(conn, "storage.size", "a number of octets", n)) or 0
   end
   local h = ask(conn, "storage.get", storage.get, st.mbox, id, conn)
   if is_fault(h) or not h then
      return h or 0
   end
   return (ask(conn, "storage.get", handle.octets, h))
end

local function is_unique_id(value)
   return type(value) == "string" and #value <= 70 and value:find("^[\x21-\x7e]+$") ~= nil
end

-- A message that is gone gets one that no message ever had: it was announced,
-- so it is listed, and fetching it fails.
local function gone_uid(conn, id)
   return ("gone-%d-%d-%d"):format(os.time(), conn.id, id)
end

--- A message's unique-id.
function contents.uid(conn, st, id)
   local storage = st.storage
   if storage.uidl then
      local uid = ask(conn, "storage.uidl", storage.uidl, st.mbox, id, conn)
      if is_fault(uid) or is_unique_id(uid) then
         return uid
      end
      return uid and wrong(conn, "storage.uidl", "1 to 70 octets from 0x21 to 0x7E", uid) or gone_uid(conn, id)
   end
   local h = ask(conn, "storage.get", storage.get, st.mbox, id, conn)
   if is_fault(h) then
      return h
   end
   if not h then
      return gone_uid(conn, id)
   end
   return (ask(conn, "storage.get", handle.digest, h))
end

--- What `of` (octets or uid) says of many messages, in the same order.
-- @return true and an array; or false, and a fault's text and code
function contents.collect(conn, of, ids)
   local st, values = core.conn_private(conn), {}
   for i, id in ipairs(ids) do
      local value = of(conn, st, id)
      if is_fault(value) then
         return false, value.text, value.code
      end
      values[i] = value
   end
   return true, values
end

local function check_list(conn, list, count, good, what)
   if list == nil then
      return nil
   end
   if type(list) ~= "table" then
      return wrong(conn, "storage.scan", "an array of " .. what, list)
   end
   for i = 1, count do
      local value = list[i]
      if value ~= false and not good(value) then
         return fault(conn, "storage.scan", ("entry %d of the %s is %s"):format(i, what, ask_module.show(value)))
      end
   end
   return list
end

local function new_found(st, count, total, sizes, uids)
   return {
      count = count, total = total, sizes = sizes, uids = uids,
      no_dele = not st.storage.dele, renews = st.storage.renew ~= nil,
   }
end

-- The core takes a list as it is.
local function by_list(conn, st, list_of)
   local list = ask(conn, "storage.scan", list_of, st.mbox)
   return is_fault(list) and list or new_found(st, core.mail.count(list), nil, list, list)
end

local function by_scan(conn, st)
   local list_of = lists.of(st.storage.scan)
   if list_of then
      return by_list(conn, st, list_of)
   end
   local sizes, uids = ask(conn, "storage.scan", st.storage.scan, st.mbox, conn)
   if is_fault(sizes) then
      return sizes
   end
   if type(sizes) ~= "table" then
      return wrong(conn, "storage.scan", "an array of sizes", sizes)
   end
   local count = #sizes
   sizes = check_list(conn, sizes, count, octets_of, "sizes")
   uids = check_list(conn, uids, count, is_unique_id, "unique-ids")
   if is_fault(sizes) or is_fault(uids) then
      return is_fault(sizes) and sizes or uids
   end
   return new_found(st, count, nil, sizes, uids)
end

local function by_stat(conn, st)
   local storage = st.storage
   local count = ask(conn, "storage.stat", storage.stat, st.mbox, conn)
   if is_fault(count) then
      return count
   end
   count = octets_of(count) or count
   if not is_count(count) or count > 100000000 then
      return wrong(conn, "storage.stat", "the number of messages", count)
   end
   if not storage.size then
      return new_found(st, count)
   end
   local total = ask(conn, "storage.size", storage.size, st.mbox, nil, conn)
   if is_fault(total) then
      return total
   end
   total = octets_of(total)
   return total and new_found(st, count, total) or wrong(conn, "storage.size", "a number of octets", total)
end

--- What is known of a maildrop at once.
-- @return `{ count, total, sizes, uids, no_dele, renews }`, or a fault
function contents.open(conn, st)
   return (st.storage.scan and by_scan or by_stat)(conn, st)
end

return contents
