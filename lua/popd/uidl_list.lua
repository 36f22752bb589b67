--- The lists in which other servers keep what they know of a Maildir's messages.
--
-- Pure: text in, a table out.  A list is written by another program, and users
-- may own their Maildirs, so nothing in it is trusted: what is malformed is
-- skipped and counted, and no line takes longer than its length.
--
-- A list comes as a string, or as a function that returns one piece after the
-- other, and nil; it may wait in between.  Entries are numbered as they stand in
-- the list.  What comes out is a table with
--
-- - `count`: how many entries; `name[k]`: the base name of entry k, false where a later one has taken its place
-- - `index`: a map (`popd.uidl_map`) from a name to the entry's number
-- - `may_repeat`: whether two entries might have one unique-id, in spite of their UIDs
-- - `bad`, `first_bad`: how many lines were skipped, and the first one's number; nil where none was
-- @module popd.uidl_list
local map = require("popd.uidl_map")

local uidl_list = {}

local LINE_MAX = 4096 -- octets; a file name has 255 at most
local FIELDS_MAX = 32 -- of an entry; Dovecot knows five
local UID_MAX = 4294967294

local function skip(list, number)
   list.bad = (list.bad or 0) + 1
   list.first_bad = list.first_bad or number
end

-- Adds an entry.  A later one of the same name takes the place of an earlier one.
local function add(list, name)
   local k, before = list.count + 1, list.index:get(name)
   if before then
      list.name[before] = false
   end
   list.count, list.name[k] = k, name
   list.index:set(name, k)
   return k
end

-- Takes the whole lines of a piece from `at` on.  Returns where what is left starts.
local function take_lines(list, text, at)
   local stop = text:find("\n", at, true)
   while stop do
      list.lines = list.lines + 1
      if stop - at > LINE_MAX or not list.take(list, text, at, stop - 1) then
         skip(list, list.lines)
      end
      at = stop + 1
      stop = text:find("\n", at, true)
   end
   return at
end

-- The first line: a new list and where its entries start; or nil and why it is none.
local function begin(text, start)
   local stop = text:find("\n", 1, true)
   local list, why = start(stop and stop <= LINE_MAX and text:sub(1, stop - 1) or "")
   if not list then
      return nil, why
   end
   list.name, list.index, list.count, list.lines = {}, map.new(), 0, list.has_header and 1 or 0
   return list, list.has_header and stop + 1 or 1
end

-- Reads a list piece by piece; start(line) makes it from its first line.
local function read(pull, start)
   if type(pull) == "string" then
      local text = pull
      pull = function()
         local piece = text
         text = nil
         return piece
      end
   end
   local list, rest = nil, ""
   for piece in pull do
      local text, at = rest .. piece, 1
      if not list and (#text > LINE_MAX or text:find("\n", 1, true)) then
         list, at = begin(text, start)
         if not list then
            return nil, at
         end
      end
      at = list and take_lines(list, text, at) or 1
      -- A line that is too long need not be kept to be known for it.
      rest = text:sub(at, at + LINE_MAX + 1)
   end
   if list and rest ~= "" then
      skip(list, list.lines + 1) -- it was not written to its end
   elseif not list then
      return nil, rest == "" and "it is empty" or "its first line has no end"
   end
   return list
end

-- dovecot-uidlist -------------------------------------------------------------

-- What the letters in front of a name say.
local FIELDS = { P = "pop3", O = "order", G = "guid", W = "sent", S = "stored" }
local NUMBERS = { order = true, sent = true, stored = true }

-- The fields from `at` on, up to the colon that a name follows.  Returns a table
-- of them and where the name starts, or nil.
local function fields_at(text, at, to)
   local fields, count = {}, 0
   while text:byte(at) ~= 0x3a do
      local letter, value, next_at = text:match("^(%u)([^ \n]*) +()", at)
      count = count + 1
      if not letter or next_at > to or count > FIELDS_MAX then
         return nil
      end
      local name = FIELDS[letter] or letter
      if NUMBERS[name] then
         value = #value <= 18 and value:find("^%d+$") and math.tointeger(tonumber(value)) or nil
      end
      fields[name] = fields[name] or value -- of two of a kind Dovecot takes the first
      at = next_at
   end
   return fields, at + 1
end

-- Takes the name at `at`.  Its flags do not matter.
local function take_name(list, uid, text, at, to)
   local name, after = text:match("^([^:/\n]+)()", at)
   uid = #uid <= 10 and math.tointeger(tonumber(uid)) or 0
   if not name or after <= to and text:byte(after) ~= 0x3a or uid <= list.last_uid or uid > UID_MAX then
      return nil
   end
   local k = add(list, name)
   list.uid[k], list.last_uid = uid, uid
   return k
end

local function take_plain(list, text, from, to)
   local uid, at = text:match("^(%d+) +()", from)
   return uid and take_name(list, uid, text, at, to)
end

local function take_extended(list, text, from, to)
   local uid, at = text:match("^(%d+) +:()", from)
   if uid then
      return take_name(list, uid, text, at, to)
   end
   local fields
   uid, at = text:match("^(%d+) +()", from)
   if uid then
      fields, at = fields_at(text, at, to)
   end
   local k = fields and take_name(list, uid, text, at, to)
   list.may_repeat = list.may_repeat or k and fields.pop3 ~= nil
   for name, value in pairs(k and fields or {}) do
      list[name] = list[name] or {}
      list[name][k] = value
   end
   return k
end

-- `1 uidvalidity next`
local function plain_header(line)
   return line:match("^1 (%d+) (%d+)%s*$")
end

-- `3 Vuidvalidity Nnext Gguid`, in any order, and what else there may be.
local function extended_header(line)
   local values = {}
   for letter, value in line:sub(3):gmatch("(%S)(%S*)") do
      values[letter] = value
   end
   return (values.V or ""):match("^%d+$"), (values.N or ""):match("^%d+$")
end

local VERSIONS = {
   ["1"] = { header = plain_header, take = take_plain },
   ["3"] = { header = extended_header, take = take_extended },
}

local function is_32_bits(digits)
   local n = digits and #digits <= 10 and math.tointeger(tonumber(digits))
   return n and n > 0 and n <= 0xffffffff and n or nil
end

local function start_dovecot(line)
   local version = VERSIONS[line:match("^(%d) ")]
   if not version then
      return nil, "no list of version 1 or 3"
   end
   local uidvalidity, next_uid = version.header(line)
   uidvalidity, next_uid = is_32_bits(uidvalidity), is_32_bits(next_uid)
   if not uidvalidity or not next_uid then
      return nil, "its header is broken"
   end
   return {
      take = version.take, has_header = true, uidvalidity = uidvalidity, last_uid = 0, uid = {},
      pop3 = {}, order = {}, guid = {}, sent = {}, stored = {},
   }
end

--- Reads a `dovecot-uidlist`, versions 1 and 3.
--
-- Besides what every list has: `uidvalidity`; `uid[k]`; and, where an entry has
-- them, `pop3[k]` (`""` stands for the base name), `order[k]`, `guid[k]`, `sent[k]` and `stored[k]` (octets).
-- @tparam string|function pull
-- @treturn table the list, or nil and why it is none
function uidl_list.dovecot(pull)
   return read(pull, start_dovecot)
end

-- courierpop3dsizelist ----------------------------------------------------------

-- Courier's unique-id of a message that has no number: the name, in its own quoting.
local function quoted(name)
   return (name:gsub("[^!#-&(-*,-~]", function(octet)
      return ("+%02X"):format(octet:byte())
   end))
end

--- The unique-id that Courier gave to an entry of its list.
-- @tparam table list
-- @int k the entry's number
-- @treturn string
function uidl_list.courier_id(list, k)
   local uid, uidvalidity = list.uid[k], list.uidvalidities[k]
   if uid == 0 then
      return quoted(list.name[k])
   end
   return uidvalidity == 0 and ("UID%d"):format(uid) or ("UID%d-%d"):format(uid, uidvalidity)
end

-- What stands behind a name, by the version of the list: size, uid and uidvalidity.
local ENTRIES = {
   ["0"] = "^(.+) (%d+)$",
   ["1"] = "^(.+) (%d+) (%d+)$",
   ["2"] = "^(.+) (%d+) (%d+):(%d+)$",
   ["3"] = "^(.+) (%d+) (%d+):(%d+):%d$",
}

local DIGITS_MAX = 18 -- of 63 bits

local function is_short(digits)
   return not digits or #digits <= DIGITS_MAX
end

local function number_of(digits)
   return math.tointeger(tonumber(digits or "0"))
end

local function courier_version(line)
   if line:sub(1, 1) ~= "/" then
      return line:find(ENTRIES["0"]) and "0"
   end
   return line:match("^/(1) %d+%s*$") or line:match("^/([23]) %d+ %d+%s*$")
end

local function take_courier(list, text, from, to)
   local file, size, uid, uidvalidity = text:sub(from, to):match(list.entry)
   local name = file and file:match("^[^:/]+")
   if not name or not (is_short(size) and is_short(uid) and is_short(uidvalidity)) then
      return false
   end
   local k = add(list, name)
   uid = number_of(uid)
   list.uid[k], list.uidvalidities[k] = uid, number_of(uidvalidity)
   list.may_repeat = list.may_repeat or list.known[uid]
   list.known[uid] = uid ~= 0
   return true
end

local function start_courier(line)
   local version = courier_version(line)
   if not version then
      return nil, "no list of version 0 to 3"
   end
   return {
      take = take_courier, has_header = version ~= "0", entry = ENTRIES[version],
      uid = {}, uidvalidities = {}, known = {},
   }
end

--- Reads a `courierpop3dsizelist`, versions 0 (without a header) to 3.
--
-- Besides what every list has: `uid[k]` and `uidvalidities[k]`, of which `courier_id` makes unique-ids.
-- @tparam string|function pull
-- @treturn table the list, or nil and why it is none
function uidl_list.courier(pull)
   return read(pull, start_courier)
end

return uidl_list
