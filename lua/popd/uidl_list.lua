--- The lists in which other servers keep what they know of a Maildir's messages.
--
-- Pure: text in, a table out.  A list is written by another program, and users
-- may own their Maildirs, so nothing in it is trusted: what is malformed is
-- skipped and counted, and no line takes longer than its length.
--
-- Entries are numbered as they stand in the list.  A list is a table with
--
-- - `count`: how many entries; `name[k]`: the base name of entry k, false where a later one has taken its place
-- - `index[name]`: the entry's number
-- - `bad`, `first_bad`: how many lines were skipped, and the first one's number; nil where none was
-- @module popd.uidl_list
local uidl_list = {}

local LINE_MAX = 4096 -- octets; a file name has 255 at most
local SLICE = 32768 -- octets of a list between two calls of `breathe`
local UID_MAX = 4294967294

local function nothing()
end

local function skip(list, number)
   list.bad = (list.bad or 0) + 1
   list.first_bad = list.first_bad or number
end

-- Adds an entry.  A later one of the same name takes the place of an earlier one.
local function add(list, name)
   local k, before = list.count + 1, list.index[name]
   if before then
      list.name[before] = false
   end
   list.count, list.name[k], list.index[name] = k, name, k
   return k
end

-- Calls take(from, to) for each whole line behind `at`.  What is behind the last
-- line's end was not written to its end.
local function each_line(text, at, list, take, breathe)
   local number, pause_at = at == 1 and 0 or 1, at + SLICE
   while true do
      local stop = text:find("\n", at, true)
      if not stop then
         break
      end
      number = number + 1
      if stop - at > LINE_MAX or not take(at, stop - 1) then
         skip(list, number)
      end
      at = stop + 1
      if at > pause_at then
         pause_at = at + SLICE
         breathe()
      end
   end
   if at <= #text then
      skip(list, number + 1)
   end
end

-- dovecot-uidlist -------------------------------------------------------------

-- What the letters in front of a name say.
local FIELDS = { P = "pop3", O = "order", G = "guid", W = "sent", S = "stored" }
local NUMBERS = { order = true, sent = true, stored = true }

-- The fields from `at` on, up to the colon that a name follows.  Returns a table
-- of them and where the name starts, or nil.
local function fields_at(text, at, to)
   local fields = {}
   while text:byte(at) ~= 0x3a do
      local letter, value, next_at = text:match("^(%u)([^ \n]*) +()", at)
      if not letter or next_at > to then
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

local function take_plain(list, text)
   return function(from, to)
      local uid, at = text:match("^(%d+) +()", from)
      return uid and take_name(list, uid, text, at, to)
   end
end

local function take_extended(list, text)
   return function(from, to)
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
      for name, value in pairs(k and fields or {}) do
         list[name] = list[name] or {}
         list[name][k] = value
      end
      return k
   end
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

-- The first line, and where the second starts.
local function first_line(text)
   local stop = text:find("\n", 1, true)
   return stop and stop <= LINE_MAX and text:sub(1, stop - 1) or "", (stop or #text) + 1
end

--- Reads a `dovecot-uidlist`, versions 1 and 3.
--
-- Besides what every list has: `uidvalidity`; `uid[k]`; and, where an entry has
-- them, `pop3[k]` (`""` stands for the base name), `order[k]`, `guid[k]`, `sent[k]` and `stored[k]` (octets).
-- @string text
-- @tparam[opt] function breathe called now and then, between two lines
-- @treturn table the list, or nil and why it is none
function uidl_list.dovecot(text, breathe)
   local line, at = first_line(text)
   local version = VERSIONS[line:match("^(%d) ")]
   if not version then
      return nil, "no list of version 1 or 3"
   end
   local uidvalidity, next_uid = version.header(line)
   uidvalidity, next_uid = is_32_bits(uidvalidity), is_32_bits(next_uid)
   if not uidvalidity or not next_uid then
      return nil, "its header is broken"
   end
   local list = {
      uidvalidity = uidvalidity, count = 0, last_uid = 0, name = {}, index = {}, uid = {},
      pop3 = {}, order = {}, guid = {}, sent = {}, stored = {},
   }
   each_line(text, at, list, version.take(list, text), breathe or nothing)
   return list
end

-- courierpop3dsizelist ----------------------------------------------------------

-- Courier's unique-id of a message that has no number: the name, in its own quoting.
local function quoted(name)
   return (name:gsub("[^!#-&(-*,-~]", function(octet)
      return ("+%02X"):format(octet:byte())
   end))
end

-- A number as C would print it again.
local function plain(digits)
   return digits:byte() == 0x30 and digits:match("^0*(%d.*)$") or digits
end

local function numbered(name, uid, uidvalidity)
   uid, uidvalidity = plain(uid or "0"), plain(uidvalidity or "0")
   return uid == "0" and quoted(name) or uidvalidity == "0" and "UID" .. uid or ("UID%s-%s"):format(uid, uidvalidity)
end

-- What stands behind a name, by the version of the list: size, uid and uidvalidity.
local ENTRIES = {
   ["0"] = "^(.+) (%d+)$",
   ["1"] = "^(.+) (%d+) (%d+)$",
   ["2"] = "^(.+) (%d+) (%d+):(%d+)$",
   ["3"] = "^(.+) (%d+) (%d+):(%d+):%d$",
}

local DIGITS_MAX = 20 -- of 64 bits

local function is_short(digits)
   return not digits or #digits <= DIGITS_MAX
end

local function courier_version(line)
   if line:sub(1, 1) ~= "/" then
      return line:find(ENTRIES["0"]) and "0"
   end
   return line:match("^/(1) %d+%s*$") or line:match("^/([23]) %d+ %d+%s*$")
end

--- Reads a `courierpop3dsizelist`, versions 0 (without a header) to 3.
--
-- Besides what every list has: `id[k]`, the unique-id that Courier gave it.
-- @string text
-- @tparam[opt] function breathe called now and then, between two lines
-- @treturn table the list, or nil and why it is none
function uidl_list.courier(text, breathe)
   local line, at = first_line(text)
   local version = courier_version(line)
   if not version then
      return nil, "no list of version 0 to 3"
   end
   local list = { count = 0, name = {}, index = {}, id = {} }
   local entry = ENTRIES[version]
   each_line(text, version == "0" and 1 or at, list, function(from, to)
      local file, size, uid, uidvalidity = text:sub(from, to):match(entry)
      local name = file and file:match("^[^:/]+")
      if not name or not (is_short(size) and is_short(uid) and is_short(uidvalidity)) then
         return false
      end
      list.id[add(list, name)] = numbered(name, uid, uidvalidity)
      return true
   end, breathe or nothing)
   return list
end

return uidl_list
