--- Users in a file, one a line: `name:password:mbox`.
--
--     # a comment
--     joe:{SCRAM-SHA-256}15000,mYd…
--     ann:{PLAIN}secret:ann@example.org
--
-- The password is stored as `popd.scheme` says.  The mbox is the name where it
-- is absent; fields behind it are ignored.
--
-- Dovecot's passwd-file is read too: `name:password:uid:gid:gecos:home:shell:extra`,
-- where the mbox is the name.  A line is taken for one if it has six fields or
-- more, and the third and fourth are numbers or empty; the option `form` ends
-- the guessing.  A password without a scheme is refused in a line that was
-- guessed, and crypt(3)'s with `form = "dovecot"`, as Dovecot has it.  One that
-- begins with `!` or `*`, or is `x`, and the extra field `nologin` lock the
-- user out; `allow_nets` is refused, since it is not looked at here.
--
-- The file is read again when it changes; one that cannot be read, or has a line
-- or a password that cannot be understood, is logged and the users known before
-- stay.
-- @module popd.passwd
local core = require("popd.core")
local fs = require("popd.fs")
local scheme = require("popd.scheme")

local passwd = {}

-- Octets above which reading would use up a login's time and instructions.
local LARGE = 4194304

local FORMAT = "; expected name:password:mbox"
local FILE_MAX = 256 * 1024 * 1024 -- octets
local FORMS = { popd = true, dovecot = true }

-- A password's field may hold ':' in one scheme, which can be told by its own
-- signs: RFC 5803's form of SCRAM.
local SCRAM = "^({[Ss][Cc][Rr][Aa][Mm]%-[^}]*}%d+:[^:$]*%$[^:]*:[^:]*)(.*)$"

--- Takes a line apart.
-- @string rest what stands behind the name and its `:`
-- @treturn string the password's field
-- @treturn table the fields behind it
function passwd.split(rest)
   local password, behind = rest:match(SCRAM)
   if not password then
      password, behind = rest:match("^([^:]*)(.*)$")
   end
   local fields = {}
   for field in behind:gmatch(":([^:]*)") do
      fields[#fields + 1] = field
   end
   return password, fields
end

--- Whether a line has Dovecot's form, by the fields behind its password.
-- @tparam table fields
-- @treturn boolean
function passwd.looks_like_dovecot(fields)
   return #fields >= 4 and fields[1]:find("^%d*$") ~= nil and fields[2]:find("^%d*$") ~= nil
end

local function is_locked(password)
   return password == "x" or password:find("^[!*]") ~= nil
end

-- Dovecot's line: { password, mbox }, or { locked }; or nil and why.
local function dovecot_user(name, password, fields, form)
   local extra = " " .. table.concat(fields, ":", 6) .. " "
   if extra:find(" allow_nets=", 1, true) then
      return nil, "allow_nets is not supported"
   elseif is_locked(password) or extra:find(" nologin[ =]") then
      return { locked = true }
   elseif not password:find("^[{$]") then
      if not form then
         return nil, 'a password without {SCHEME} in a line of Dovecot\'s form; give it {PLAIN} or {CRYPT}, or say '
            .. 'form = "popd" or "dovecot"'
      end
      password = "{CRYPT}" .. password
   end
   return { password = password, mbox = name }
end

-- One line: name and { password, mbox }, or nil (nothing on it), or false and why.
local function parse_line(line, form)
   if line:find("^%s*$") or line:find("^%s*#") then
      return nil
   end
   local name, rest = line:match("^([^:]+):(.*)$")
   if not name then
      return false, "no ':' between a name and a password" .. FORMAT
   elseif name:find("^%s") or name:find("%s$") then
      return false, "blanks around the name" .. FORMAT
   end
   local password, fields = passwd.split(rest)
   if password == "" then
      return false, "the password is missing" .. FORMAT
   elseif form == "dovecot" or not form and passwd.looks_like_dovecot(fields) then
      local user, why = dovecot_user(name, password, fields, form)
      return user and name or false, user or why
   end
   local mbox = fields[1]
   return name, { password = password, mbox = mbox and mbox ~= "" and mbox or name }
end

-- Sets the kind and the scheme of a user's password; or nil and why.
local function classify(user)
   if user.locked then
      return true
   end
   local kind, name = scheme.kind(user.password)
   if not kind then
      return nil, name
   elseif kind == "plain" and scheme.plain(user.password) == "" then
      return nil, "the password is missing"
   end
   user.kind, user.scheme = kind, name
   return true
end

-- Where entries say how much work they are.
local WORKS = { "^{[^}]*}(%d+)[,:$]", "%$2%w%$(%d%d)%$", "%$rounds=(%d+)%$", "%$g?y%$([^$]+)%$" }

-- What an entry has in common with others that take as long.
local function label_of(user)
   if user.kind == "plain" then
      return user.scheme
   end
   for _, pattern in ipairs(WORKS) do
      local work = user.password:match(pattern)
      if work then
         return user.scheme .. " " .. work
      end
   end
   return user.scheme
end

-- Groups of users whose entries are alike: n, and the first by name.
local function groups_of(users)
   local groups = {}
   for name, user in pairs(users) do
      if user.kind then
         local label = label_of(user)
         local group = groups[label] or { n = 0, label = label, first = name }
         group.n, group.first = group.n + 1, name < group.first and name or group.first
         groups[label] = group
      end
   end
   return groups
end

-- What all of them serve, and an entry as most of them have one: an unknown
-- user's password is checked against it, to take as long.  Of the same users it
-- is the same, in each process and after each start, or it would tell unknown
-- users from known ones.
local function summary(users)
   local kinds, schemes, most = {}, {}, nil
   for _, user in pairs(users) do
      kinds[user.kind or "locked"], schemes[user.scheme or "locked"] = true, true
   end
   for _, group in pairs(groups_of(users)) do
      if not most or group.n > most.n or group.n == most.n and group.label < most.label then
         most = group
      end
   end
   local scram = schemes["SCRAM-SHA-1"] and schemes["SCRAM-SHA-256"] and "scram"
      or schemes["SCRAM-SHA-1"] and "scram-sha-1" or "scram-sha-256"
   return kinds.hash and "hash" or kinds.scram and scram or "plain", most and users[most.first].password
end

local function parse(text, file, form)
   local users, number = {}, 0
   text = text:gsub("^\239\187\191", "") -- the mark that some editors put before UTF-8
   for line in text:gmatch("([^\r\n]*)\r?\n?") do
      number = number + 1
      local name, user = parse_line(line, form)
      local ok, why = name, user
      if name then
         ok, why = classify(user)
         users[name] = user
      end
      if ok == false or name and not ok then
         return nil, ("%s:%d: %s"):format(file, number, why)
      end
   end
   return users
end

-- The file's text; nil and the reason.  A device may have no end.
local function read(file)
   local st, err = fs.stat(file, true)
   if not st then
      return nil, err
   elseif st.type ~= "file" then
      if file == "/dev/null" then
         return "" -- nobody may log in
      end
      return nil, file .. " is not a regular file"
   elseif st.size > FILE_MAX then
      return nil, ("%s is longer than %d octets"):format(file, FILE_MAX)
   end
   return fs.read(file, FILE_MAX)
end

local function load(file, form)
   local text, err = read(file)
   if not text then
      return nil, err
   end
   return parse(text, file, form)
end

local function stamp_of(file)
   local st = fs.stat(file, true)
   if not st then
      return "absent", 0
   end
   return ("%d %d %.9f %d"):format(st.dev, st.ino, st.mtime, st.size), st.size
end

local function check(options)
   if type(options) ~= "table" or type(options.file) ~= "string" then
      error("passwd.new: { file = } expected", 3)
   end
   for key in pairs(options) do
      if key ~= "file" and key ~= "form" then
         error(("passwd.new: unknown option '%s'; there are: file, form"):format(tostring(key)), 3)
      end
   end
   if options.form ~= nil and not FORMS[options.form] then
      error('passwd.new: form: "popd" or "dovecot" expected', 3)
   end
end

--- Makes an auth back end.
-- @tparam table options
-- @string options.file
-- @string[opt] options.form `"popd"` or `"dovecot"`; absent: each line is looked at
-- @treturn table with `lookup`; `secrets`, what all passwords of the file serve (`"plain"`, `"scram"`,
-- `"scram-sha-256"`, `"scram-sha-1"` or `"hash"`);
-- and `dummy`, a stored password as most users have one, or nil.  If it is given a function `changed`, that is
-- called when `secrets` has changed.  Or nil and the reason: the file cannot be read
-- @usage popd.new { auth = assert(passwd.new { file = "/etc/popd/users" }) }
function passwd.new(options)
   check(options)
   local file, form = options.file, options.form
   local stamp = stamp_of(file)
   local users, err = load(file, form)
   if not users then
      return nil, err
   end

   local auth = {}
   auth.secrets, auth.dummy = summary(users)

   local function take(fresh)
      local before = auth.secrets
      users = fresh
      auth.secrets, auth.dummy = summary(users)
      if auth.secrets ~= before and auth.changed then
         auth.changed()
      end
   end

   local function reread(now)
      local fresh, why = load(file, form)
      if stamp ~= now then
         return -- it has changed again, and another login has read it meanwhile, or is about to
      elseif fresh then
         take(fresh)
      else
         core.log("error", "the users' file was not taken; those known before stay", { reason = why })
      end
   end

   --- Reads the file again if it has changed, which `lookup` does by itself.  A
   -- large one is read beside the logins, which meanwhile see the users of before.
   function auth.refresh()
      local now, size = stamp_of(file)
      if now == stamp then
         return
      end
      stamp = now
      if size <= LARGE or size > FILE_MAX then
         reread(now)
      else
         core.spawn(reread, now)
      end
   end

   --- A user's password, as it is stored, and mbox.
   -- @string name
   -- @treturn string or nil for an unknown one, or one who is locked out
   function auth.lookup(name)
      auth.refresh()
      local user = users[name]
      if user and not user.locked then
         return user.password, user.mbox
      end
   end

   return auth
end

return passwd
