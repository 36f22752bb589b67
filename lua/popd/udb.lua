--- Users in memory, with a file to save them in (Tcl's `pop3d::udb`).
--
-- The file has lines such as `add joe {two words} joe-box`, in Tcl's syntax,
-- and is the one that Tcl's package reads and writes.  It is read as data:
-- nothing in it is run, and anything but `add` with three words is an error.
--
-- Passwords are plain ones, as they are in Tcl, also those that look like a
-- hash; `lookup` marks these with `{PLAIN}`.  For hashes use `popd.passwd`.
-- @module popd.udb
-- @usage
-- local users = udb.new()
-- users.add("joe", "secret", "joe-box")
-- popd.new { auth = users, storage = storage }
local fs = require("popd.fs")

local udb = {}

local ESCAPES = { a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v" }

-- Patterns of what \x, \u and \U take.
local HEX = { x = "^%x%x?", u = "^%x%x?%x?%x?", U = "^%x%x?%x?%x?%x?%x?%x?%x?" }

local REPLACEMENT = 0xFFFD

local function char(code)
   return utf8.char(code <= 0x10FFFF and code or REPLACEMENT)
end

-- What the backslash at pos stands for, and the position behind it.
local function unescape(text, pos)
   local letter = text:sub(pos + 1, pos + 1)
   if ESCAPES[letter] then
      return ESCAPES[letter], pos + 2
   elseif letter == "\n" then
      return " ", text:match("^[ \t]*()", pos + 2)
   elseif HEX[letter] then
      local digits = text:match(HEX[letter], pos + 2)
      if digits then
         return char(tonumber(digits, 16)), pos + 2 + #digits
      end
   elseif letter:find("^[0-7]") then
      local digits = text:match("^[0-3][0-7][0-7]", pos + 1) or text:match("^[0-7][0-7]?", pos + 1)
      return char(tonumber(digits, 8)), pos + 1 + #digits
   elseif letter == "" then
      return "\\", pos + 1
   end
   return letter, pos + 2
end

-- Why the character at pos would make Tcl run something; or nil.
local function runs(text, pos)
   if text:find("^%[", pos) then
      return "a [command] is not run here; quote it as {[...]}"
   elseif text:find("^%$[%w_{(]", pos) or text:find("^%$::", pos) then
      return "a $variable has no value here; quote it as {$...}"
   end
end

-- A word whose escapes count, up to a character of the set `ends`.
-- Returns it and the position of that character, or nil and a reason.
local function substituted_word(text, pos, ends)
   local parts = {}
   while pos <= #text do
      local plain = text:match("^[^%[%$\\" .. ends .. "]+", pos)
      if plain then
         parts[#parts + 1] = plain
         pos = pos + #plain
      elseif text:find("^[" .. ends .. "]", pos) or ends ~= '"' and text:find("^\\\n", pos) then
         break
      elseif text:sub(pos, pos) == "\\" then
         parts[#parts + 1], pos = unescape(text, pos)
      else
         local why = runs(text, pos)
         if why then
            return nil, why
         end
         parts[#parts + 1] = text:sub(pos, pos)
         pos = pos + 1
      end
   end
   return table.concat(parts), pos
end

-- A word in braces, taken as it is but for continued lines.
local function braced_word(text, pos)
   local parts, depth = {}, 1
   pos = pos + 1
   while pos <= #text do
      local plain = text:match("^[^{}\\]+", pos)
      local piece = plain or text:match("^\\.", pos) or text:sub(pos, pos)
      if piece == "\\\n" then
         parts[#parts + 1], pos = unescape(text, pos)
      else
         depth = depth + (piece == "{" and 1 or piece == "}" and -1 or 0)
         pos = pos + #piece
         if depth == 0 then
            return table.concat(parts), pos
         end
         parts[#parts + 1] = piece
      end
   end
   return nil, "a brace is not closed"
end

local function quoted_word(text, pos)
   local word, after = substituted_word(text, pos + 1, '"')
   if not word then
      return nil, after
   elseif after > #text then
      return nil, "a quote is not closed"
   end
   return word, after + 1
end

local BLANK = " \t\v\f"

local function next_word(text, pos)
   local first = text:sub(pos, pos)
   if first ~= "{" and first ~= '"' then
      return substituted_word(text, pos, BLANK .. "\n;")
   end
   local word, after = (first == "{" and braced_word or quoted_word)(text, pos)
   if word and after <= #text and not text:find("^[" .. BLANK .. "\n;]", after) and not text:find("^\\\n", after) then
      return nil, first == "{" and "extra characters after a closing brace" or "extra characters after a closing quote"
   end
   return word, after
end

-- The position behind blanks and continued lines.
local function skip_blank(text, pos)
   while true do
      local after = text:match("^[" .. BLANK .. "]+()", pos) or text:match("^\\\n()", pos)
      if not after then
         return pos
      end
      pos = after
   end
end

local function skip_comment(text, pos)
   while pos <= #text and text:sub(pos, pos) ~= "\n" do
      pos = pos + (text:sub(pos, pos) == "\\" and 2 or 1)
   end
   return pos
end

-- The words of the command at pos, and the position behind it.
local function next_command(text, pos)
   local words = {}
   while true do
      pos = skip_blank(text, pos)
      if pos > #text or text:find("^[\n;]", pos) then
         return words, pos + 1
      elseif not words[1] and text:sub(pos, pos) == "#" then
         pos = skip_comment(text, pos)
      else
         local word, after = next_word(text, pos)
         if not word then
            return nil, after
         end
         words[#words + 1], pos = word, after
      end
   end
end

local function run_add(users, words)
   if words[1] ~= "add" then
      return nil, ("unknown command '%s'; there is: add"):format(words[1])
   elseif #words ~= 4 then
      return nil, "add takes a user, a password and a storage reference"
   elseif words[2] == "" or words[3] == "" or words[4] == "" then
      return nil, "an empty user, password or storage reference"
   end
   users[words[2]] = { password = words[3], mbox = words[4] }
   return true
end

-- The users of a file's text; or nil, a reason and its line.
local function parse(text)
   local users, pos, line = {}, 1, 1
   text = text:gsub("\r\n?", "\n"):gsub("\26.*", "") -- as Tcl reads a program
   while pos <= #text do
      local words, after = next_command(text, pos)
      local ok, why = words, after
      if words and words[1] then
         ok, why = run_add(users, words)
      end
      if not ok then
         return nil, why, line
      end
      line = line + select(2, text:sub(pos, after - 1):gsub("\n", ""))
      pos = after
   end
   return users
end

local function escape(letter)
   if letter == "\n" then
      return "\\n"
   elseif letter:find("%c") then
      return ("\\%03o"):format(letter:byte())
   end
   return "\\" .. letter
end

-- A string as a word that Tcl reads back.
local function quote(text)
   if not text:find("[^%w_.@+,:=/\x80-\xff-]") then
      return text
   elseif not text:find("[{}\\%c]") then
      return "{" .. text .. "}"
   end
   return (text:gsub("[^%w_.@+,:=/\x80-\xff-]", escape))
end

local function sorted_names(users)
   local names = {}
   for name in pairs(users) do
      names[#names + 1] = name
   end
   table.sort(names)
   return names
end

local function to_text(users)
   local lines = { "# POP3 users: add name password storage-reference", "" }
   for _, name in ipairs(sorted_names(users)) do
      local user = users[name]
      lines[#lines + 1] = ("add %s %s %s"):format(quote(name), quote(user.password), quote(user.mbox))
   end
   return table.concat(lines, "\n") .. "\n"
end

-- Writes beside the file, then renames: a reader sees the old file or the new.
local function replace(file, text)
   local temporary = ("%s.%016x"):format(file, math.random(0))
   local ok, err = fs.write(temporary, text, tonumber("600", 8))
   if not ok then
      return nil, err
   end
   ok, err = fs.rename(temporary, file)
   if not ok then
      fs.unlink(temporary)
      return nil, err
   end
   ok, err = fs.fsync(file:match("^.*/") or ".")
   if not ok then
      return nil, err
   end
   return true
end

local function check(what, value)
   if type(value) ~= "string" or value == "" then
      error(what .. " missing: a string that is not empty expected", 3)
   end
end

--- Makes an empty set of users, for `auth`.
-- @treturn table the functions
function udb.new()
   local users, last_file, db = {}, nil, {}

   --- Adds a user, or replaces what is known of one.
   -- @string user
   -- @string password a plain one
   -- @string mbox the storage reference
   -- @treturn boolean true
   function db.add(user, password, mbox)
      check("user", user)
      check("password", password)
      check("storage reference", mbox)
      users[user] = { password = password, mbox = mbox }
      return true
   end

   --- Removes a user.
   -- @string user
   -- @treturn boolean true, or nil and the reason: there is no such user
   function db.remove(user)
      check("user", user)
      if not users[user] then
         return nil, ("no user '%s'"):format(user)
      end
      users[user] = nil
      return true
   end

   --- Gives a user another name.
   -- @string user
   -- @string name that no user has
   -- @treturn boolean true, or nil and the reason
   function db.rename(user, name)
      check("user", user)
      check("new name", name)
      if not users[user] then
         return nil, ("no user '%s'"):format(user)
      elseif users[name] then
         return nil, ("there is a user '%s' already"):format(name)
      end
      users[user], users[name] = nil, users[user]
      return true
   end

   --- Whether there is such a user.
   -- @string user
   -- @treturn boolean
   function db.exists(user)
      return users[user] ~= nil
   end

   --- A user's password, in the form that `auth.lookup` returns it, and mbox.
   -- @string user
   -- @treturn string or nil: there is no such user
   -- @treturn string
   function db.lookup(user)
      local found = users[user]
      if not found then
         return nil
      end
      local password = found.password
      return password:find("^[{$]") and "{PLAIN}" .. password or password, found.mbox
   end

   --- The users' names.
   -- @treturn table sorted
   function db.who()
      return sorted_names(users)
   end

   --- Saves the users, by one rename; only the owner can read the file.
   -- @string[opt] file absent: the one that was read last
   -- @treturn boolean true, or nil and the reason
   function db.save(file)
      file = file or last_file
      check("file", file)
      return replace(file, to_text(users))
   end

   --- Reads the users of a file in place of those that are known.  A file with
   -- an error changes nothing.
   -- @string file
   -- @treturn boolean true, or nil and the reason (`"file:line: …"`)
   function db.read(file)
      check("file", file)
      local text, err = fs.read(file)
      if not text then
         return nil, err
      end
      local found, why, line = parse(text)
      if not found then
         return nil, ("%s:%d: %s"):format(file, line, why)
      end
      users, last_file = found, file
      return true
   end

   return db
end

return udb
