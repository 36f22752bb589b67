--- Delivers messages into Maildirs and maildrop directories.
--
-- A deliverer is a function `deliver(mbox, source [, options])`.  The source is
-- any message handle and is read to its end before anything else is done, so that
-- a message is there whole or not at all; it is held in memory meanwhile.  Octets
-- stay as they come, CRLF or LF, but for a first line that begins with `From `,
-- which belongs to no message and is left out.  Options: `from` puts
-- `Return-Path: <from>` in front, `to` puts `Delivered-To: to`.
--
-- It returns true once the message is on the disk; or nil, the reason and what
-- sort of failure that is: `"NOUSER"` (there is no such maildrop, nor can there
-- be), `"NOINPUT"` (the source fails), `"CANTCREAT"` (something else stands where the
-- maildrop belongs), or nil: it may well work later.
-- @module popd.delivery
-- @usage
-- local deliver = delivery.maildir { root = "/var/vmail/%d/%n" }
-- assert(deliver("joe@example.org", io.stdin))
local core = require("popd.core")
local fs = require("popd.fs")
local handle = require("popd.handle")
local roots = require("popd.root")

local delivery = {}

local PRIVATE = tonumber("700", 8)

-- What no second try mends.
local FINAL = { ENOTDIR = "CANTCREAT", ELOOP = "CANTCREAT", ENAMETOOLONG = "CANTCREAT" }

--- What a deliverer returns of a failure.
-- @string err
-- @string[opt] code the error's name
-- @return nil, the reason, and the sort of failure
function delivery.fail(err, code)
   return nil, err, FINAL[code]
end

-- Reading -------------------------------------------------------------------

local function read_all(source)
   local pull, close = handle.pull(source)
   if not pull then
      return nil, close
   end
   local chunks = {}
   local ok, err = pcall(function()
      for chunk in pull do
         chunks[#chunks + 1] = chunk
      end
   end)
   if close then
      close()
   end
   if not ok then
      return nil, tostring(err)
   end
   return table.concat(chunks)
end

-- A line's value: an address of an envelope is text without line ends.
local function field(name, value, form, ending)
   if not value then
      return ""
   elseif type(value) ~= "string" or value:find("%c") then
      error(("deliver: what %s tells is a text without control characters"):format(name), 4)
   end
   return name .. ": " .. form:format(value) .. ending
end

--- Reads a message to its end, as it is to be stored.
-- @param source a message handle
-- @tparam[opt] table options `from`, `to`
-- @treturn string or nil, the reason and `"NOINPUT"`
function delivery.read(source, options)
   local message, err = read_all(source)
   if not message then
      return nil, err, "NOINPUT"
   end
   message = message:gsub("^From [^\n]*\n?", "", 1)
   local ending = message:match("^[^\n]*(\r\n)") or "\n"
   local from, to = options and options.from, options and options.to
   return field("Return-Path", from, "<%s>", ending) .. field("Delivered-To", to, "%s", ending) .. message
end

-- Names -----------------------------------------------------------------------

local count = 0

local function process_id()
   local file = io.open("/proc/self/stat") -- elsewhere the random part has to do
   local number = file and file:read("n")
   if file then
      file:close()
   end
   return number or 0
end

local function host()
   return ((core.hostname() or "localhost"):gsub("[/:,%c]", function(octet)
      return ("\\%03o"):format(octet:byte())
   end))
end

-- A name that no file has had: time (with microseconds, so that names sort by it),
-- process, counter, random octets, host.
local function unique()
   count = count + 1
   local now = core.date()
   local random = core.random(4):gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end)
   return ("%d.M%06dP%dQ%dR%s.%s"):format(now // 1, now % 1 * 1e6 // 1, process_id(), count, random, host())
end

-- Maildirs --------------------------------------------------------------------

-- What must be there of a root's paths.
local function fixed_of(root)
   local fixed = roots.fixed_part(root)
   if fixed == root:gsub("%%%%", "%%"):gsub("([^/])/*$", "%1") then
      return roots.parent(fixed)
   end
   return fixed
end

-- Makes a directory and those above it, but nothing above `fixed`: where that is
-- absent a disk may not be mounted, and mail would be hidden below it.
local function make_dir(dir, fixed)
   local st, err, code = fs.stat(dir, true)
   if st then
      return st.type == "directory" or nil, dir .. ": not a directory", "ENOTDIR"
   elseif code ~= "ENOENT" or dir == fixed then
      return nil, err, code
   end
   local parent = roots.parent(dir)
   local ok
   ok, err, code = make_dir(parent, fixed)
   if ok then
      ok, err, code = fs.mkdir(dir, PRIVATE)
      ok = ok or code == "EEXIST"
   end
   if ok then
      ok, err, code = fs.fsync(parent)
   end
   return ok, err, code
end

--- Makes what is missing of the directories that a path of a root is in, for their
-- owner alone; the one in front of the first `%` must be there.
-- @string root
-- @string path
-- @treturn boolean true, or nil, the reason and the error's name
function delivery.make_parent(root, path)
   return make_dir(roots.parent(path), fixed_of(root))
end

local function make_maildir(dir, fixed)
   for _, sub in ipairs { "/tmp", "/new", "/cur" } do
      local ok, err, code = make_dir(dir .. sub, fixed)
      if not ok then
         return nil, err, code
      end
   end
   return true
end

-- Whoever keeps a quota is told; a file that is not there yet is its keeper's to make.
local function tell_quota(dir, size)
   local path = dir .. "/maildirsize"
   if not fs.size(path) then
      return
   end
   local line = ("%d 1\n"):format(size)
   local file, err = io.open(path, "ab")
   local ok = file and file:write(line)
   local is_alone = ok and file:seek("cur") == #line -- it was removed, and we made it
   if file then
      ok, err = file:close()
   end
   if is_alone then
      fs.unlink(path)
   elseif not ok then
      core.log("warning", "a Maildir's quota file was not written", { reason = err or path })
   end
end

--- Puts a message into a Maildir that is there.  Its octets are on the disk then; its
-- name is once the directory was synced.
-- @string dir
-- @string message
-- @string[opt] name its name in `new` or `cur`; absent: one of its own
-- @string[opt="new"] sub the directory
-- @treturn string its path; or nil, the reason and the error's name
function delivery.put(dir, message, name, sub)
   local base = unique()
   local tmp = dir .. "/tmp/" .. base
   local ok, err, code = fs.write(tmp, message)
   if not ok then
      return nil, err, code
   end
   name = name or ("%s,S=%d,W=%d"):format(base, #message, fs.octets_of(message))
   local path = ("%s/%s/%s"):format(dir, sub or "new", name)
   ok, err, code = fs.rename(tmp, path)
   if not ok then
      fs.unlink(tmp)
      return nil, err, code
   end
   tell_quota(dir, #message)
   return path
end

-- Syncs the directory of a message, which is nobody's if that fails.
local function settle(path, dir)
   local ok, err, code = fs.fsync(dir)
   if not ok then
      fs.unlink(path)
   end
   return ok, err, code
end

--- Makes what is missing of a Maildir.
-- @string dir
-- @treturn boolean true, or nil, the reason and the error's name
function delivery.make_maildir(dir)
   return make_maildir(dir, roots.parent(dir))
end

--- A deliverer into Maildirs, which are made where they are absent, for their
-- owner alone; the directory in front of the first `%` must be there.
-- @tparam table options `root`, as `popd.maildir` takes it
-- @treturn func
function delivery.maildir(options)
   local root = options.root
   local wrong = roots.fault(root)
   if wrong then
      error("delivery.maildir: " .. wrong, 2)
   end
   local fixed = fixed_of(root)
   return function(mbox, source, how)
      local dir, why = roots.expand(root, mbox)
      if not dir then
         return nil, why, "NOUSER"
      end
      local message, err, code = delivery.read(source, how)
      if not message then
         return nil, err, code
      end
      local ok
      ok, err, code = make_maildir(dir, fixed)
      local path
      if ok then
         path, err, code = delivery.put(dir, message)
      end
      if path then
         ok, err, code = settle(path, dir .. "/new")
      end
      if not path or not ok then
         return delivery.fail(err, code)
      end
      return true
   end
end

-- Maildrop directories ----------------------------------------------------------

local function highest(names)
   local most = 0
   for _, name in ipairs(names) do
      most = math.max(most, name:find("^%d%d?%d?%d?%d?%d?%d?%d?%d?%d?%d?%d?$") and math.tointeger(tonumber(name)) or 0)
   end
   return most
end

-- Gives a file the next number that is free, by a link, which never takes one
-- that somebody else took meanwhile.
local function number(tmp, dir)
   local names, err, code = fs.scandir(dir)
   local n, ok = names and highest(names), nil
   while names and not ok and (code == nil or code == "EEXIST") do
      n = n + 1
      ok, err, code = fs.link(tmp, ("%s/%d"):format(dir, n))
   end
   fs.unlink(tmp)
   if ok then
      return ("%s/%d"):format(dir, n)
   end
   return nil, err, code
end

-- Writes under a name that a dot hides, then gives it a number.
local function put_numbered(dir, message)
   local tmp = dir .. "/." .. unique()
   local ok, err, code = fs.write(tmp, message)
   if not ok then
      return nil, err, code
   end
   local path
   path, err, code = number(tmp, dir)
   if not path then
      return nil, err, code
   end
   return settle(path, dir)
end

-- The directory of a maildrop; nil, the reason, and the sort of failure.
local function find_box(base, root, mbox)
   local dir, why = roots.expand(root, mbox)
   if not dir then
      return nil, why, "NOUSER"
   end
   local st, err, code = fs.stat(dir)
   if st and st.type == "directory" then
      return dir
   end
   local there = st or code == "ENOENT" and fs.stat(base, true)
   return nil, there and ("no maildrop '%s'"):format(mbox) or err, there and "NOUSER" or nil
end

--- A deliverer into the maildrop directories of `popd.dbox`, which must be there.
-- @tparam table options `base`, the directory that has them
-- @treturn func
function delivery.dbox(options)
   local root = roots.literal(options.base) .. "/%s"
   return function(mbox, source, how)
      local dir, err, sort = find_box(options.base, root, mbox)
      if not dir then
         return nil, err, sort
      end
      local message
      message, err, sort = delivery.read(source, how)
      if not message then
         return nil, err, sort
      end
      local ok, why, code = put_numbered(dir, message)
      if not ok then
         return delivery.fail(why, code)
      end
      return true
   end
end

return delivery
