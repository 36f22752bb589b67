--- Paths of maildrops: a pattern with the parts of an mbox in it.
--
-- `%s` stands for the mbox, `%n` and `%d` for its parts in front of and behind
-- the last `@`, `%%` for `%`.  An mbox never leads out of the root.
-- @module popd.root
local root = {}

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

local function parts_of(mbox)
   local name, domain = mbox:match("^(.*)@(.*)$")
   return { s = mbox, n = name or mbox, d = domain, ["%"] = "%" }
end

--- The path of an mbox.
-- @string pattern
-- @param mbox
-- @treturn string without slashes at its end; or nil and why it can have none
function root.expand(pattern, mbox)
   if type(mbox) ~= "string" then
      return nil, ("a maildrop's name is a string, not a %s"):format(type(mbox))
   end
   local parts, bad = parts_of(mbox), nil
   local path = pattern:gsub("%%(.)", function(letter)
      if letter ~= "%" and not is_safe(parts[letter]) then
         bad = letter
      end
      return parts[letter] or ""
   end)
   if bad then
      return nil, ("maildrop %q: its part %%%s is no name for a directory or a file"):format(mbox, bad)
   end
   return (path:gsub("([^/])/+$", "%1"))
end

return root
