--- Where Maildirs are: paths with parts of a maildrop's name in them.
--
-- `%s` stands for the mbox, `%n` and `%d` for its parts in front of and behind
-- the last `@`, `%%` for `%`.
-- @module popd.mailroot
local mailroot = {}

--- What is wrong with a root, or nil.
-- @string root
-- @treturn string
function mailroot.check(root)
   if root == "" then
      return "the path is empty"
   elseif root:find("\0", 1, true) then
      return "a path cannot contain NUL"
   elseif root:gsub("%%[snd%%]", ""):find("%", 1, true) then
      return "the path knows %s, %n, %d and %%"
   end
end

--- The directory in front of the first part that differs between maildrops.
-- @string root
-- @treturn string the root itself where no part does
function mailroot.fixed_part(root)
   local plain = root:gsub("%%%%", "\0")
   local at = plain:find("%", 1, true)
   if at then
      plain = plain:sub(1, at - 1):match("^.*/") or "./"
   end
   return (plain:gsub("%z", "%%"):gsub("([^/])/*$", "%1"))
end

--- A root in which every octet stands for itself.
-- @string dir
-- @treturn string
function mailroot.literal(dir)
   return (dir:gsub("%%", "%%%%"))
end

-- A part of an mbox is one name in a directory, and no special one.
local function is_safe(part)
   return part and part ~= "" and part:sub(1, 1) ~= "." and not part:find("[/%c]")
end

--- The path of an mbox.
-- @string root
-- @string mbox
-- @treturn string or nil and why it can have none
function mailroot.expand(root, mbox)
   local name, domain = mbox:match("^(.*)@(.*)$")
   local parts, bad = { s = mbox, n = name or mbox, d = domain, ["%"] = "%" }, nil
   local dir = root:gsub("%%(.)", function(letter)
      if letter ~= "%" and not is_safe(parts[letter]) then
         bad = letter
      end
      return parts[letter] or ""
   end)
   if bad then
      return nil, ("maildrop %q: its part %%%s is no name for a directory"):format(mbox, bad)
   end
   return (dir:gsub("([^/])/+$", "%1"))
end

return mailroot
