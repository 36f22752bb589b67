--- The command `popd-lua passwd`: an entry of the users' file, or a user of a store.
-- @module popd.users
local core = require("popd.core")
local flags = require("popd.flags")
local fs = require("popd.fs")
local passwd = require("popd.passwd")
local privilege = require("popd.privilege")
local scheme = require("popd.scheme")
local stores = require("popd.stores")

local users = {}

local known = { ["--scheme"] = "scheme", ["--file"] = "file", ["--store"] = "store", ["--user"] = "user" }

local DEFAULT_SCHEME = "SCRAM-SHA-256"

-- What a field of the file cannot hold.
local function check_field(what, text)
   if text:find("[%c:]") then
      return ("passwd: %s cannot hold ':' or control characters"):format(what)
   end
end

-- What is wrong with a name, or nil.
local function check_name(name)
   if not name or name == "" then
      return "passwd: whose password? Give the user's name"
   elseif name:find("^[%s#]") or name:find("%s$") then
      return "passwd: a name cannot begin with '#', nor begin or end with a blank"
   end
   return check_field("a name", name)
end

-- The password; nil and the reason.
local function ask(name)
   local password, by_terminal = core.ask_secret(("Password of %s: "):format(name))
   if not password then
      return nil, by_terminal
   elseif password == "" then
      return nil, "the password is empty"
   elseif password:find("[%z\r]") then
      return nil, "a password cannot hold NUL or CR: clients could not send it"
   end
   if by_terminal then
      local again, why = core.ask_secret("Once more: ")
      if again ~= password then
         return nil, again and "the two are not the same" or why
      end
   end
   return password
end

-- What is stored for a password; nil and the reason.
local function make(name, password)
   local ok, stored, why = pcall(scheme.make, name, password)
   if not ok then
      return nil, "--scheme: " .. tostring(stored):gsub("^.-scheme%.make: ", "")
   elseif not stored then
      return nil, why
   elseif stored:find("[%c:]") then
      return nil, "in this scheme the password cannot stand in the file: it holds ':' or control characters"
   end
   return stored
end

-- A user's line without its end: the fields behind the password stay, but for
-- the mbox where a new one is given.  nil and the reason: it has no place.
local function entry(name, stored, mbox, old)
   local fields = {}
   if old then
      fields = select(2, passwd.split(old:sub(#name + 2)))
   end
   if mbox and passwd.looks_like_dovecot(fields) then
      return nil, ("the line of '%s' has Dovecot's form, in which the mbox is the name"):format(name)
   end
   fields[1] = mbox or fields[1]
   return table.concat({ name, stored, table.unpack(fields) }, ":")
end

-- The file's text with the user's line replaced, or added at its end; every
-- other octet stays.  nil and the reason where the user has two lines.
local function edit(text, name, stored, mbox)
   local from, to, old, number = nil, nil, nil, 0
   for at, line, behind in text:gmatch("()([^\r\n]*)()\r?\n?") do
      number = number + 1
      if line:gsub("^\239\187\191", ""):sub(1, #name + 1) == name .. ":" then
         if old then
            return nil, ("'%s' has two lines, the second is %d; remove one first"):format(name, number)
         end
         local mark = line:match("^\239\187\191") or ""
         from, to, old = at + #mark, behind, line:sub(#mark + 1)
      end
   end
   local new, why = entry(name, stored, mbox, old)
   if not new then
      return nil, why
   elseif old then
      return text:sub(1, from - 1) .. new .. text:sub(to)
   end
   local ending = text:find("\r\n", 1, true) and "\r\n" or "\n"
   local open = text ~= "" and not text:find("\n$") and ending or ""
   return text .. open .. new .. ending
end

-- The old file's mode and owner for the new one.
local function keep_rights(new, st)
   local mine = assert(fs.stat(new))
   if mine.uid ~= st.uid or mine.gid ~= st.gid then
      local ok, err = fs.chown(new, st.uid, st.gid)
      if not ok then
         return nil, err
      end
   end
   return fs.chmod(new, st.mode)
end

-- Puts a text in a file's place, by one rename.
local function replace(file, text, st)
   local new = file .. "." .. core.random(8):gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end)
   local ok, err = fs.write(new, text)
   if not ok then
      return nil, err
   end
   ok, err = keep_rights(new, st)
   if ok then
      ok, err = fs.rename(new, file)
   end
   if not ok then
      fs.unlink(new)
      return nil, err
   end
   return fs.fsync(file:match("^.*/") or ".")
end

-- Reads, edits and replaces, while the lock keeps out others who do the same.
local function update(file, st, name, stored, mbox)
   local text, err = fs.read(file)
   if not text then
      return nil, err
   end
   text, err = edit(text, name, stored, mbox)
   if not text then
      return nil, file .. ": " .. err
   end
   return replace(file, text, st)
end

-- The file, locked; made where it is absent.
local function lock(file)
   local st, err, code = fs.stat(file)
   if st and st.type ~= "file" then
      local link = st.type == "link" and "; name what the link leads to" or ""
      return nil, file .. " is not a regular file" .. link
   elseif not st and code ~= "ENOENT" then
      return nil, err
   end
   local held
   held, err = fs.lock(file, 0)
   if held == false then
      err = file .. ": another popd-lua passwd is changing it"
   end
   return held, err, not st
end

--- Sets a user's line in a file of users; the other lines stay as they are, and
-- so do the file's mode and owner.
-- @string file made where it is absent, for the owner alone
-- @string name
-- @string stored what to keep for the password
-- @string[opt] mbox absent: as it was
-- @treturn boolean true, or nil and the reason: then nothing has changed
function users.set(file, name, stored, mbox)
   local held <close>, err, is_new = lock(file)
   if not held then
      return nil, err
   end
   local ok, st
   st, err = fs.stat(file)
   if st then
      ok, err = update(file, st, name, stored, mbox)
   end
   if not ok and is_new and st and st.size == 0 then
      fs.unlink(file)
   end
   return ok, err
end

-- What is wrong with a store's words, or nil.
local function check_store(given, mbox)
   if not given.store then
      return given.user and "passwd: --user goes with --store" or nil
   end
   local kind, why = stores.split(given.store)
   return not kind and "passwd: " .. why
      or kind ~= "sqlite" and "passwd: users are in --store sqlite:FILE"
      or (given.file or mbox) and "passwd: --store takes no --file and no mbox" or nil
end

-- Adds the user to a store, which is made where it is absent, or changes the password.
local function set_in_store(given, name, stored)
   local _, file = stores.split(given.store)
   local ok, store = pcall(require("popd.sqlite").new, { file = file, threads = 1 })
   if not ok then
      return nil, (tostring(store):gsub("\nstack traceback:.*$", ""))
   end
   local names, err = store.users()
   if not names then
      return nil, err
   end
   for _, one in ipairs(names) do
      if one == name then
         return store.password(name, stored)
      end
   end
   return store.add(name, stored)
end

local function failed(text)
   io.stderr:write("popd-lua: passwd: ", text, "\n")
   return 1
end

-- Puts what is stored where it belongs.
local function keep(given, name, stored, mbox)
   if given.store then
      return set_in_store(given, name, stored)
   elseif given.file then
      return users.set(given.file, name, stored, mbox)
   end
   return io.write(entry(name, stored, mbox), "\n")
end

--- Runs the command.
-- @tparam table words its flags, name and mbox, from 1 on
-- @treturn integer the status to exit with
function users.main(words)
   local given, wrong = flags.parse(words, 1, known)
   if not given then
      return flags.fail(wrong)
   end
   local name, mbox = words[given.rest], words[given.rest + 1]
   wrong = check_name(name) or mbox and check_field("an mbox", mbox)
      or words[given.rest + 2] and "passwd: one name and one mbox; the password is never an argument"
      or check_store(given, mbox)
   if wrong then
      return flags.fail(wrong)
   end
   wrong = given.store and privilege.become(given.user)
   if wrong then
      return failed(wrong)
   end
   local password, stored, ok, err
   password, err = ask(name)
   if not password then
      return failed(err)
   end
   stored, err = make(given.scheme or DEFAULT_SCHEME, password)
   if not stored then
      return failed(err)
   end
   ok, err = keep(given, name, stored, mbox)
   return ok and 0 or failed(err)
end

return users
