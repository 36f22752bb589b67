--- Paths of maildrops: a pattern with the parts of an mbox in it.
--
-- `%s` stands for the mbox, `%n` and `%d` for its parts in front of and behind
-- the last `@`, `%%` for `%`.  An mbox never leads out of the root.
-- @module popd.root
local root = {}

local SLASH = ("/"):byte()

--- What is wrong with a pattern, or nil.
-- @string pattern
-- @string[opt="option 'root'"] what how the text calls it
-- @treturn string
function root.fault(pattern, what)
   what = what or "option 'root'"
   if pattern == "" then
      return what .. " is empty"
   elseif pattern:find("\0", 1, true) then
      return "a path cannot contain NUL"
   elseif pattern:gsub("%%[snd%%]", ""):find("%", 1, true) then
      return what .. " knows %s, %n, %d and %%"
   end
   return nil
end

--- The directory in front of the first part that differs between maildrops.
-- @string pattern
-- @treturn string the path itself where no part does
function root.fixed_part(pattern)
   local plain = pattern:gsub("%%%%", "\0")
   local at = plain:find("%", 1, true)
   if at then
      plain = plain:sub(1, at - 1):match("^.*/") or "./"
   end
   return (plain:gsub("%z", "%%"):gsub("([^/])/*$", "%1"))
end

--- A pattern in which every octet of a path stands for itself.
-- @string path
-- @treturn string
function root.literal(path)
   return (path:gsub("%%", "%%%%"))
end

--- The directory that a path is in.
-- @string path without slashes at its end
-- @treturn string
function root.parent(path)
   return path:match("^(.*[^/])/+[^/]*$") or path:sub(1, 1) == "/" and "/" or "."
end

-- A part of an mbox is one name in a directory, and no special one.
local function is_safe(part)
   return part and part ~= "" and part:sub(1, 1) ~= "." and not part:find("[/%c]")
end

local PARTS = { n = "^(.*)@.*$", d = "^.*@(.*)$" }

-- What a letter stands for; nil: nothing.
local function part_of(mbox, letter)
   if letter == "s" then
      return mbox
   end
   local part = PARTS[letter] and mbox:match(PARTS[letter])
   return part or letter == "n" and mbox or nil
end

-- A pattern taken apart: text, letter, text, letter, … text.
local function take_apart(pattern)
   local pieces, text, at = {}, "", 1
   for before, letter, behind in pattern:gmatch("([^%%]*)%%(.)()") do
      text, at = text .. before, behind
      if letter == "%" then
         text = text .. "%"
      else
         pieces[#pieces + 1], pieces[#pieces + 2] = text, letter
         text = ""
      end
   end
   pieces[#pieces + 1] = text .. pattern:sub(at)
   return pieces
end

local function fill(pieces, mbox)
   if type(mbox) ~= "string" then
      return nil, ("a maildrop's name is a string, not a %s"):format(type(mbox))
   end
   local path, bad = pieces[1], nil
   for i = 2, #pieces, 2 do
      local part = part_of(mbox, pieces[i])
      if is_safe(part) then
         path = path .. part .. pieces[i + 1]
      else
         bad = pieces[i]
      end
   end
   if bad then
      return nil, ("maildrop %q: its part %%%s is no name for a directory or a file"):format(mbox, bad)
   end
   return path:byte(-1) == SLASH and path:gsub("([^/])/+$", "%1") or path
end

--- Makes what expands a pattern many times: it takes the pattern apart once.
-- @string pattern
-- @treturn func called with an mbox, it returns what `expand` does
function root.expander(pattern)
   local pieces = take_apart(pattern)
   return function(mbox)
      return fill(pieces, mbox)
   end
end

--- The path of an mbox.
-- @string pattern
-- @param mbox
-- @treturn string without slashes at its end; or nil and why it can have none
function root.expand(pattern, mbox)
   return fill(take_apart(pattern), mbox)
end

return root
