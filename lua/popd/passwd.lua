--- Users in a file, one a line: `name:password:mbox`.
--
--     # a comment
--     joe:{PLAIN}secret:joe
--     ann:another secret
--
-- The mbox is the name where it is absent.  Fields behind it are ignored.  The
-- file is read again when it changes; one that cannot be read, or has a line
-- that cannot be understood, is logged and the users known before stay.
-- @module popd.passwd
local core = require("popd.core")
local fs = require("popd.fs")

local passwd = {}

-- One line: name and { password, mbox }, or nil (nothing on it), or false and why.
local function parse_line(line)
   if line:find("^%s*$") or line:find("^%s*#") then
      return nil
   end
   local name, rest = line:match("^([^:]+):(.*)$")
   if not name then
      return false, "no ':' between a name and a password"
   elseif name:find("^%s") or name:find("%s$") then
      return false, "blanks around the name"
   end
   local password, mbox = rest:match("^([^:]*):?([^:]*)")
   if password == "" then
      return false, "the password is missing"
   end
   return name, { password = password, mbox = mbox ~= "" and mbox or name }
end

local function parse(text, file)
   local users, number = {}, 0
   text = text:gsub("^\239\187\191", "") -- the mark that some editors put before UTF-8
   for line in text:gmatch("([^\r\n]*)\r?\n?") do
      number = number + 1
      local name, user = parse_line(line)
      if name == false then
         return nil, ("%s:%d: %s; expected name:password:mbox"):format(file, number, user)
      elseif name then
         users[name] = user
      end
   end
   return users
end

local function load(file)
   local text, err = fs.read(file)
   if not text then
      return nil, err
   end
   return parse(text, file)
end

local function stamp_of(file)
   local st = fs.stat(file, true)
   return st and ("%d %d %.9f %d"):format(st.dev, st.ino, st.mtime, st.size) or "absent"
end

--- Makes an auth back end.
-- @tparam table options
-- @string options.file
-- @treturn table with `lookup`, or nil and the reason: the file cannot be read
-- @usage popd.new { auth = assert(passwd.new { file = "/etc/popd/users" }) }
function passwd.new(options)
   if type(options) ~= "table" or type(options.file) ~= "string" then
      error("passwd.new: { file = } expected", 2)
   end
   local file = options.file
   local stamp = stamp_of(file)
   local users, err = load(file)
   if not users then
      return nil, err
   end

   local function refresh()
      local now = stamp_of(file)
      if now == stamp then
         return
      end
      stamp = now
      local fresh, why = load(file)
      if fresh then
         users = fresh
      else
         core.log("error", "the users' file was not taken; those known before stay", { reason = why })
      end
   end

   local auth = {}

   --- A user's password and mbox.
   -- @string name
   -- @treturn string or nil for an unknown one
   function auth.lookup(name)
      refresh()
      local user = users[name]
      if user then
         return user.password, user.mbox
      end
   end

   return auth
end

return passwd
