--- Unique-ids that stay what they were: the kit for back ends.
--
-- A client knows by its unique-id which message it has already.  A site that
-- changes servers keeps its clients from fetching everything again if the new
-- one tells the unique-ids that the old one told.  A *scheme* does so: made
-- once, it reads the list that the old server left beside a maildrop's messages
-- and gives each message its unique-id.
--
-- Lists are read, never written.  A message that a list does not name gets its
-- name as unique-id (of a Maildir the base name of the file), which depends on
-- no list and so never changes: the old server has shown it to nobody yet, so
-- whatever it is called is new to every client.
--
-- Every unique-id is 1 to 70 octets from 0x21 to 0x7E (RFC 1939, section 7); of
-- one that is not, the SHA-256 is taken.  No two messages have the same: within
-- a list later ones get `-2`, `-3`, … behind it, counted in the list and not
-- among the messages that are left, so that deleting one changes no other's.
-- @module popd.uidl
-- @usage
-- local scheme = uidl.new { style = "dovecot", format = "%u-%v" }
-- local list = assert(scheme:read("/var/vmail/joe"))
-- local ids = list:ids { "1700000000.M1P1.host", "1700000001.M2P2.host" }
local core = require("popd.core")
local format_of = require("popd.uidl_format").parse
local fs = require("popd.fs")
local handle = require("popd.handle")
local lists = require("popd.uidl_list")
local map = require("popd.uidl_map")
local memory = require("popd.uidl_memory")

local uidl = {}

local UID_MAX = 70
local LIST_MAX = 64 * 1024 * 1024 -- octets: more than half a million messages
local PIECE = 16384 -- octets of it between two pauses
local SLICE = 1000 -- messages between two pauses
local FIELD_MAX = 255 -- octets of an X-UIDL field whose blanks are looked for

-- What each style reads, or makes unique-ids of.
local STYLES = {
   name = {},
   dovecot = { file = "dovecot-uidlist", format = "%08Xu%08Xv", parse = lists.dovecot },
   cyrus = { file = "dovecot-uidlist", format = "%v.%u", parse = lists.dovecot },
   courier = { file = "courierpop3dsizelist", parse = lists.courier },
   md5 = { digest = "MD5" },
   sha1 = { digest = "SHA-1" },
   sha256 = { digest = "SHA-256" },
}

local OPTIONS = {
   style = "string", format = "string", file = "string", xuidl = "boolean", override = "function",
   alarm = "number", refuse = "boolean",
}

local REFUSAL = "the unique-ids of this mailbox have changed; the administrator must look at it before it is opened"

-- Gives the others their turn; the time does not count against the callback.
local function breathe()
   core.pause(0)
end

-- The same in a loop, now and then.
local function give_way(i)
   if i % SLICE == 0 then
      breathe()
   end
end

-- Single unique-ids -----------------------------------------------------------

local function is_fit(id)
   return #id >= 1 and #id <= UID_MAX and not id:find("[^!-~]")
end

--- What POP3 allows as a unique-id, as it is; of anything else its SHA-256.
-- @string text
-- @treturn string 1 to 70 octets from 0x21 to 0x7E
function uidl.fit(text)
   return is_fit(text) and text or fs.sha256(text)
end

-- The field X-UIDL of a message, or nil.  A long one is no unique-id as it is,
-- with or without blanks; finding them in it could take long.
local function x_uidl(message)
   local head_end = message:find("\r?\n\r?\n")
   local head = "\n" .. (head_end and message:sub(1, head_end) or message)
   local value = head:match("\n[Xx]%-[Uu][Ii][Dd][Ll]:([^\r\n]*)")
   if value and #value <= FIELD_MAX then
      value = value:match("^%s*(.-)%s*$")
   end
   return value ~= "" and value or nil
end

-- Lists -----------------------------------------------------------------------

local List = {}
List.__index = List

-- What Dovecot said of its entry k: its own unique-id, or by the format.
local function dovecot_id(list, k)
   local own, name = list.pop3[k], list.name[k]
   if own then
      return own == "" and name or own
   end
   list.values.uid, list.values.filename, list.values.guid = list.uid[k], name, list.guid[k] or name
   return list.scheme.make(list.values)
end

-- The unique-id of a message that no list names: its name, or what a format of
-- Dovecot's makes of it, where that is all that the format needs.
local function unlisted_id(list, name)
   local needs = list.scheme.needs
   if not needs or needs.uid or needs.uidvalidity and not list.uidvalidity then
      return name
   end
   list.values.filename, list.values.guid = name, name
   return list.scheme.make(list.values)
end

-- What the list says of its entry k.
local function raw_id(list, k)
   return (list.uidvalidities and lists.courier_id or dovecot_id)(list, k)
end

-- Notes a unique-id; a further one of its kind gets its number.
local function count_up(counts, id)
   local n = counts:get(id)
   while n do
      counts:set(id, n + 1)
      id = ("%s-%d"):format(id, n + 1)
      n = counts:get(id)
   end
   counts:set(id, 1)
   return id
end

-- Where entries of a list might share a unique-id: those that get another, by
-- entry, and a map of all.  The second entry of one gets "-2", as with Dovecot's
-- pop3_uidl_duplicates=rename, which counts the messages that are left, though.
local function claim(list)
   local others, counts = {}, map.new()
   for k = 1, list.count do
      local id = list.name[k] and raw_id(list, k)
      local own = id and count_up(counts, id)
      others[k] = own ~= id and own or nil
      give_way(k)
   end
   return others, counts
end

-- The unique-id of message i, not yet made fit.
local function id_of(list, name, i, message)
   local k = list.index:get(name)
   if k and list.scheme.xuidl and not list.pop3[k] and message then
      local text = message(i)
      local id = text and x_uidl(text)
      if id then
         return id
      end
   end
   if k then
      return list.others and list.others[k] or raw_id(list, k)
   end
   local id = unlisted_id(list, name)
   -- A list that names this unique-id gave it to another message.
   return list.counts and list.counts:get(id) and fs.sha256(name .. "\0") or id
end

local function to_hex(octets)
   return ("%02x"):rep(#octets):format(octets:byte(1, -1))
end

local function digest_of(list, name, i, message)
   local text = message and message(i)
   return text and to_hex(core.digest(list.scheme.digest, text)) or name
end

-- Makes the ones that are still alike differ: the first keeps its own.  Of a
-- digest it does not matter which of them is the first, as they are the same.
local function part(list, id, name, seen)
   local alike, n = id, 1
   while seen:get(id) do
      n = n + 1
      id = list.scheme.digest and uidl.fit(("%s-%d"):format(alike, n)) or fs.sha256(id .. "\0" .. name)
   end
   return id
end

--- Gives messages their unique-ids.
-- @function List:ids
-- @tparam table names of the messages, in their order, all different; a name is what stays with a message: of a
-- Maildir's file the base name
-- @tparam[opt] function message returns the octets of message i, or nil: for what is made of content (`md5`, `sha1`,
-- `sha256`, `xuidl`)
-- @treturn table unique-ids, in the same order; all different
function List:ids(names, message)
   local scheme, ids, seen = self.scheme, {}, map.new()
   local make = scheme.digest and digest_of or id_of
   for i, name in ipairs(names) do
      local id = scheme.override and scheme.override(name, self.dir) or make(self, name, i, message)
      id = uidl.fit(id)
      if not scheme.distinct and seen:get(id) then
         id = part(self, id, name, seen)
      end
      ids[i] = id
      if not scheme.distinct then
         seen:set(id, true)
      end
      give_way(scheme.reads and 0 or i)
   end
   return ids
end

-- The entries that have an order of their own, by it.
local function by_order(list, places)
   local numbers, at = {}, {}
   for k, number in pairs(list.order) do
      if places[k] and not at[number] then
         numbers[#numbers + 1], at[number] = number, {}
      end
      if places[k] then
         table.insert(at[number], k)
      end
   end
   table.sort(numbers)
   local entries = {}
   for _, number in ipairs(numbers) do
      table.sort(at[number])
      table.move(at[number], 1, #at[number], #entries + 1, entries)
   end
   return entries
end

--- The order in which the other server numbered the messages: Dovecot's own
-- `O` entries first, then by UID; messages that the list does not name come last,
-- in the order that they have.
-- @function List:arrange
-- @tparam table names of the messages
-- @treturn table the messages' numbers in `names`, in that order; nil: the order that they have, which is so where
-- `list.order` is nil
function List:arrange(names)
   if not self.order then
      return nil
   end
   local places, found, rest = {}, {}, {}
   for k = 1, self.count do
      places[k] = false -- in this order a table grows without being moved about
   end
   for i, name in ipairs(names) do
      local k = self.index:get(name)
      if k and not places[k] then
         places[k] = i
      else
         rest[#rest + 1] = i
      end
      give_way(i)
   end
   for _, k in ipairs(by_order(self, places)) do
      found[#found + 1], places[k] = places[k], false
   end
   for k = 1, self.count do
      found[#found + 1] = places[k] or nil
   end
   return table.move(rest, 1, #rest, #found + 1, found)
end

-- Reading lists -----------------------------------------------------------------

local function complain(path, reason)
   core.log("warning", "a list of unique-ids cannot be used as it is; messages that it should name get others", {
      file = path, reason = reason,
   })
end

-- A list's octets, piece by piece; the others get their turn in between.
local function pieces(path)
   local pull, close = handle.pull { path = path, follow = false }
   local text, at, octets = "", 1, 0
   return pull and function()
      breathe()
      if at > #text then
         text, at = pull() or "", 1
         octets = octets + #text
      end
      if octets > LIST_MAX then
         error(path .. ": it grows while it is read", 0)
      end
      local piece = text:sub(at, at + PIECE - 1)
      at = at + PIECE
      return piece ~= "" and piece or nil
   end, close
end

local function parse(style, path)
   local pull, close = pieces(path)
   if not pull then
      return nil, close
   end
   local ok, list, why = pcall(style.parse, pull)
   if close then
      close()
   end
   if not ok then
      return nil, list
   elseif not list then
      complain(path, why)
   elseif list.bad then
      complain(path, ("%d lines are broken; the first is line %d"):format(list.bad, list.first_bad))
   end
   return list or false
end

-- The list; false: there is none that can be used; nil and the reason: there is
-- one that cannot be read.  That is a fault, since without it every unique-id
-- would be another.
local function read_list(style, path)
   local st, err, code = fs.stat(path)
   if code == "ENOENT" then
      return false
   elseif not st then
      return nil, err
   elseif st.type ~= "file" then
      return nil, path .. ": no regular file"
   elseif st.size > LIST_MAX then
      return nil, ("%s: more than %d octets"):format(path, LIST_MAX)
   end
   return parse(style, path)
end

local Scheme = {}
Scheme.__index = Scheme

--- Reads what the old server left beside a maildrop's messages.
-- @function Scheme:read
-- @string dir the directory, such as a Maildir
-- @string[opt] file the list's path, where it is not in `dir`
-- @treturn List of which the unique-ids are asked; without a list one that names no message.  nil: there is a list, and
-- it cannot be read; and the reason
function Scheme:read(dir, file)
   local list
   if self.parse then
      local path = file or self.file
      path = path:sub(1, 1) == "/" and path or dir .. "/" .. path
      local err
      list, err = read_list(self, path)
      if list == nil then
         return nil, err
      end
   end
   list = setmetatable(list or { index = map.new() }, List)
   list.scheme, list.dir, list.values = self, dir, { uidvalidity = list.uidvalidity }
   if list.may_repeat or list.count and self.needs and not self.needs.exact then
      list.others, list.counts = claim(list)
   end
   return list
end

-- The alarm -----------------------------------------------------------------------

--- Whether the unique-ids are the names, made fit, and there is nothing to compare
-- them with: then nobody needs `ids`, `watch` and `remember`.
-- @function Scheme:is_plain
-- @string dir where the memory of the last session would be
-- @treturn boolean
function Scheme:is_plain(dir)
   return self.distinct and not (self.alarm and (self.remembers or memory.exists(dir)))
end

--- Compares a maildrop's unique-ids with those of its last session, and says in
-- the log if more than the share `alarm` of them changed.
-- @function Scheme:watch
-- @string dir where the memory of the last session is
-- @tparam table names of the messages
-- @tparam table ids their unique-ids
-- @treturn table what `remember` needs; nil where the scheme refuses such a login, and what to raise
function Scheme:watch(dir, names, ids)
   local known = self.alarm and memory.read(dir)
   local seen = { known = known and true, there = 0, changed = 0 }
   if not known then
      return seen
   end
   local example
   seen.there, seen.changed, example = memory.compare(known, names, ids)
   if seen.changed > seen.there * self.alarm then
      core.log("warning", "unique-ids have changed since the last session: clients fetch these messages again", {
         dir = dir, changed = ("%d of %d looked at"):format(seen.changed, seen.there), message = example,
         was = known[example], login = self.refuse and "refused" or "goes on",
      })
      if self.refuse then
         return nil, { code = "SYS/PERM", text = REFUSAL }
      end
   end
   return seen
end

-- The messages that are not gone.
local function left_of(names, ids, gone)
   local names_left, ids_left = {}, {}
   for i, name in ipairs(names) do
      if not gone[i] then
         names_left[#names_left + 1], ids_left[#ids_left + 1] = name, ids[i]
      end
   end
   return names_left, ids_left
end

--- Has a maildrop's unique-ids remembered for the next session, if they should
-- be and what is remembered has become of little use.
-- @function Scheme:remember
-- @string dir where to
-- @tparam table seen as `watch` returned it
-- @tparam table names of the messages
-- @tparam table ids their unique-ids
-- @tparam[opt] table gone true for each message that is not there any more
function Scheme:remember(dir, seen, names, ids, gone)
   if not self.alarm or not (self.remembers or seen.known) then
      return
   elseif next(gone or {}) then
      names, ids = left_of(names, ids, gone)
   end
   local useful = seen.known and seen.changed == 0 and seen.there * 2 >= memory.worth(#names)
   if useful or #names == 0 then
      return
   end
   local ok, err = memory.write(dir, names, ids)
   if not ok then
      core.log("debug", "unique-ids are not remembered for the next session", { dir = dir, reason = err })
   end
end

-- Making schemes ------------------------------------------------------------------

local function choices(known)
   local names = {}
   for name in pairs(known) do
      names[#names + 1] = name
   end
   table.sort(names)
   return table.concat(names, ", ")
end

local function check(options, level)
   for name, value in pairs(options) do
      if not OPTIONS[name] then
         error(("uidl: unknown option '%s'; there are: %s"):format(tostring(name), choices(OPTIONS)), level)
      elseif type(value) ~= OPTIONS[name] and not (name == "alarm" and value == false) then
         error(("uidl: option '%s' takes a %s"):format(name, OPTIONS[name]), level)
      end
   end
   local style = STYLES[options.style or "name"]
   if not style then
      error(("uidl: unknown style '%s'; there are: %s"):format(options.style, choices(STYLES)), level)
   elseif options.file and not style.parse then
      error(("uidl: style '%s' reads no file"):format(options.style or "name"), level)
   elseif (options.format or options.xuidl) and not style.format then
      error("uidl: 'format' and 'xuidl' go with the styles dovecot and cyrus", level)
   elseif options.alarm and not (options.alarm >= 0 and options.alarm < 1) then
      error("uidl: option 'alarm' is a share from 0 to less than 1, or false", level)
   elseif options.refuse and options.alarm == false then
      error("uidl: option 'refuse' needs the alarm", level)
   end
   return style
end

--- A style as one word, as command lines have it.
-- @string text `STYLE`, or `STYLE:FORMAT`
-- @treturn table `style`, and `format` if there is one
-- @usage uidl.options("dovecot:%u-%v").format      --> %u-%v
function uidl.options(text)
   local style, format = text:match("^([^:]*):(.*)$")
   return { style = style or text, format = format }
end

--- Makes a scheme.
--
-- The styles are `name`; `dovecot` and `cyrus`, which read a `dovecot-uidlist`; `courier`, which reads a
-- `courierpop3dsizelist`; `md5`, `sha1` and `sha256` of the content, which read every message at every login.
-- @tparam[opt="name"] string|table options a style, `"dovecot:%u-%v"` with a format, or a table
-- with `style` and, where needed: `format`, Dovecot's pop3_uidl_format (of `dovecot` `"%08Xu%08Xv"`, of `cyrus`
-- `"%v.%u"`); `file`, the list's name or path; `xuidl = true`
-- as with Dovecot's pop3_reuse_xuidl, for messages that the list names; `override`, a function of a message's name and
-- the directory that returns a unique-id, or nil for the style's; `alarm`, the share of unique-ids that may have
-- changed since the last session without a line in the log (0.1), or false; `refuse = true`: a login is refused then
-- @treturn Scheme
-- @usage uidl.new("courier")
-- @usage uidl.new("dovecot:%u-%v")
-- @usage uidl.new { style = "dovecot", format = "%f", alarm = 0, refuse = true }
function uidl.new(options, level)
   level = (level or 1) + 1
   if type(options) == "string" then
      options = uidl.options(options)
   elseif type(options or {}) ~= "table" then
      error('uidl: a style, or a table such as { style = "dovecot" }, expected', level)
   end
   local given = options or {}
   local style = check(given, level + 1)
   local scheme = {
      file = given.file or style.file, parse = style.parse, digest = style.digest, override = given.override,
      xuidl = given.xuidl, reads = given.xuidl or style.digest ~= nil, refuse = given.refuse,
      alarm = given.alarm == nil and 0.1 or given.alarm, remembers = options ~= nil,
      distinct = style == STYLES.name and not given.override, -- as the names are
   }
   if style.format then
      local make, needs = format_of(given.format or style.format)
      if not make or needs.md5 then
         error("uidl: option 'format': " .. (make and "%m is what Dovecot has for mbox only" or needs), level)
      end
      scheme.make, scheme.needs = make, needs
   end
   return setmetatable(scheme, Scheme)
end

--- Dovecot's pop3_uidl_format as a function, for back ends that know UIDs of their own.
-- @function uidl.format
-- @string format in the form of Dovecot 2.3 or 2.4
-- @treturn function of a table with what the format needs: `uid` and `uidvalidity` (integers), `filename`, `guid`,
-- `md5` (strings); it returns a string, which `uidl.fit` makes a unique-id.  nil: the format cannot be used
-- @treturn table what it needs, as keys; or the reason
-- @usage local make = assert(uidl.format("%08Xu%08Xv"))
-- assert(make { uid = 1, uidvalidity = 1795740690 } == "000000016b08d412")
uidl.format = format_of

return uidl
