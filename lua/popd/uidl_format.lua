--- Dovecot's `pop3_uidl_format`, made a function.
--
-- Both forms are read: that of Dovecot 2.3 and before (`%08Xu%08Xv`), and that
-- of 2.4 (`%{uid | hex(8)}%{uidvalidity | hex(8)}`).
-- @module popd.uidl_format
local core = require("popd.core")

local uidl_format = {}

-- What the letters of 2.3 stand for, and the names of 2.4.
local VARIABLES = { u = "uid", v = "uidvalidity", f = "filename", g = "guid", m = "md5" }
local NAMES = { uid = true, uidvalidity = true, filename = true, guid = true, md5 = true }

local DIGESTS = { md5 = "MD5", sha1 = "SHA-1", sha256 = "SHA-256", sha384 = "SHA-384", sha512 = "SHA-512" }

local WIDTH_MAX = 255
local MODULUS_MAX = 0x7fffffff
local MODIFIERS_MAX = 10

local function to_hex(octets)
   return ("%02x"):rep(#octets):format(octets:byte(1, -1))
end

local function zeros(text, width)
   return ("0"):rep(width - #text) .. text
end

-- Dovecot's hash of the letter H: that of glib's first versions.
local function asu_hash(text)
   local h = 0
   for i = 1, #text do
      h = ((h << 4) + text:byte(i)) & 0xffffffff
      local high = h & 0xf0000000
      h = (h ~ (high >> 24)) ~ high
   end
   return h
end

-- The first 64 bits of an MD5, modulo `width`; without one their lower half.
local function md5_number(text, width)
   local n = 0
   for i, octet in ipairs { core.digest("MD5", text):byte(1, 8) } do
      n = width ~= 0 and (n * 256 + octet) % width or i > 4 and n * 256 + octet or 0
   end
   return n
end

-- The hashes take the field's width as a modulus, its offset as their length.
local function hashed(n, field)
   local digits = zeros(("%x"):format(n), field.offset)
   field.width, field.offset = 0, 0
   return digits
end

local function hex_of_number(text)
   return ("%x"):format(text:find("^%d+$") and math.tointeger(tonumber(text)) or 0)
end

local MODIFIERS = {
   L = string.lower,
   U = string.upper,
   E = function(text) return (text:gsub("[\"\\']", "\\%0")) end,
   X = hex_of_number,
   R = string.reverse,
   H = function(text, field)
      local n = asu_hash(text)
      return hashed(field.width > 0 and n % field.width or n, field)
   end,
   N = function(text, field) return hashed(md5_number(text, math.max(field.width, 0)), field) end,
   M = function(text) return to_hex(core.digest("MD5", text)) end,
   D = function(text) return (text:gsub("%.", ",dc=")) end,
   T = function(text) return (text:gsub("%s+$", "")) end,
}

-- What the offset and the width leave of a value.
local function cut(text, field)
   local offset, width = field.offset, field.width
   text = offset < 0 and text:sub(offset) or text:sub(offset + 1)
   if width == 0 then
      return text
   elseif field.zeros then
      return zeros(text, width)
   elseif width < 0 and #text + width < 0 then
      return text
   end
   return text:sub(1, width < 0 and #text + width or width)
end

-- A field of the 2.3 form as a function of the values.
local function field_of(value, size, modifiers)
   return function(values)
      local field = { offset = size.offset, width = size.width, zeros = size.zeros }
      local text = value(values)
      for _, modify in ipairs(modifiers) do
         text = modify(text, field)
      end
      return cut(text, field)
   end
end

-- What string.format needs to do the same, where it can: the usual formats are
-- made a hundred thousand times.
local function directive_of(name, size, modifiers)
   local is_number = name == "uid" or name == "uidvalidity"
   if size.offset ~= 0 or modifiers[2] then
      return nil
   elseif not modifiers[1] then
      return size.width == 0 and "%s" or size.zeros and is_number and size.width < 100 and ("%%0%dd"):format(size.width)
   elseif modifiers[1] == MODIFIERS.X and is_number then
      return size.width == 0 and "%x" or size.zeros and size.width < 100 and ("%%0%dx"):format(size.width)
   end
end

local function variable(name)
   return function(values)
      return tostring(values[name])
   end
end

-- The filters of 2.4, made by their argument.
local FILTERS = {
   lower = function() return string.lower end,
   upper = function() return string.upper end,
   reverse = function() return string.reverse end,
   hexlify = function() return to_hex end,
   -- Unlike the X of 2.3 it cuts what is too long.
   hex = function(width)
      return function(text)
         local digits = hex_of_number(text)
         if width > 0 then
            return zeros(digits, width):sub(-width)
         elseif width < 0 then
            return (digits .. ("0"):rep(-width - #digits)):sub(1, -width)
         end
         return digits
      end
   end,
}
for name, kind in pairs(DIGESTS) do
   FILTERS[name] = function()
      return function(text)
         return core.digest(kind, text)
      end
   end
end

-- `uid` or `uid | hex(8)`: what stands between the braces in 2.4.
local function pipeline(text)
   local steps = {}
   local name, rest = text:match("^%s*(%w+)%s*(.-)%s*$")
   if not NAMES[name] then
      return nil, ("'%%{%s}' is not known here"):format(text)
   end
   while rest ~= "" do
      local filter, argument, after = rest:match("^|%s*(%w+)(%b())%s*(.*)$")
      if not filter then
         filter, after = rest:match("^|%s*(%w+)%s*(.*)$")
         argument = filter and "()"
      end
      local width = argument and (argument == "()" and 0 or tonumber(argument:match("^%(%s*(%-?%d+)%s*%)$")))
      if not FILTERS[filter] or not width or math.abs(width) > WIDTH_MAX or width ~= 0 and filter ~= "hex" then
         return nil, ("'%%{%s}' has a filter that is not known here"):format(text)
      end
      steps[#steps + 1] = FILTERS[filter](width)
      rest = after
   end
   return function(values)
      local value = tostring(values[name])
      for _, step in ipairs(steps) do
         value = step(value)
      end
      return value
   end, name
end

-- The modifiers that stand at a place: functions, and where they end.
local function modifiers_at(format, at)
   local found = {}
   while MODIFIERS[format:sub(at, at)] and #found < MODIFIERS_MAX do
      found[#found + 1] = MODIFIERS[format:sub(at, at)]
      at = at + 1
   end
   return found, at
end

-- `[-][0]width[.[0][-]width]` in front of the modifiers; a sign without a dot
-- has no effect, as in Dovecot.  Returns `{ offset, width, zeros }`, and where
-- it ends.
local function size_at(format, at)
   local sign, zero, width, next_at = format:match("^(%-?)(0?)(%d*)()", at)
   local size = { offset = 0, width = tonumber(width) or 0, zeros = zero == "0" }
   if format:sub(next_at, next_at) == "." then
      size.offset = sign == "-" and -size.width or size.width
      zero, sign, width, next_at = format:match("^(0?)(%-?)(%d*)()", next_at + 1)
      width = tonumber(width) or 0
      size.width, size.zeros = sign == "-" and -width or width, zero == "0"
   end
   return size, next_at
end

-- Of a hash the width is a modulus, which may be any.
local function is_sound(size, modifiers)
   local width_max = WIDTH_MAX
   for _, modify in ipairs(modifiers) do
      width_max = (modify == MODIFIERS.H or modify == MODIFIERS.N) and MODULUS_MAX or width_max
   end
   return math.abs(size.offset) <= WIDTH_MAX and math.abs(size.width) <= width_max
end

local function percent()
   return "%"
end

-- What stands behind the modifiers.  Returns a function of the values, where it
-- ends, the variable, and whether it is that variable itself; or nil and why not.
local function value_at(format, at)
   local letter = format:sub(at, at)
   if letter == "%" then
      return percent, at + 1
   elseif letter ~= "{" then
      local name = VARIABLES[letter]
      if not name then
         return nil, ("'%%%s' is not known here; there are: %%u, %%v, %%f, %%g, %%m"):format(letter)
      end
      return variable(name), at + 1, name, true
   end
   local inside, after = format:match("^{([^{}]*)}()", at)
   if not inside then
      return nil, "a '{' without its '}'"
   end
   local value, name = pipeline(inside)
   return value, value and after or name, name, NAMES[inside]
end

-- One `%…`; at is behind the percent sign.  Returns `{ value, name, directive }`
-- and where it ends, or nil and what is wrong.
local function parse_field(format, at)
   local size, modifiers, value, name, whole
   size, at = size_at(format, at)
   modifiers, at = modifiers_at(format, at)
   if not is_sound(size, modifiers) then
      return nil, ("a width above %d"):format(WIDTH_MAX)
   end
   value, at, name, whole = value_at(format, at)
   if not value then
      return nil, at
   end
   local directive = whole and directive_of(name, size, modifiers)
   return { value = field_of(value, size, modifiers), name = name, directive = directive }, at
end

local function parse_parts(format)
   local parts, at = {}, 1
   while at <= #format do
      local plain, next_at = format:match("^([^%%]+)()", at)
      local part = { text = plain }
      if not plain then
         part, next_at = parse_field(format, at + 1)
         if not part then
            return nil, next_at
         end
      end
      parts[#parts + 1], at = part, next_at
   end
   return parts
end

local function slow(parts)
   return function(values)
      local texts = {}
      for i, part in ipairs(parts) do
         texts[i] = part.text or part.value(values)
      end
      return table.concat(texts)
   end
end

-- The same by string.format, or nil where that cannot do it.
local function quick(parts)
   local names, directives = {}, {}
   for i, part in ipairs(parts) do
      if not part.text and not part.directive then
         return nil
      end
      directives[i] = part.directive or part.text:gsub("%%", "%%%%")
      names[#names + 1] = part.directive and part.name
   end
   local form, first, second = table.concat(directives), names[1], names[2]
   return #names <= 2 and function(values)
      return form:format(values[first], values[second])
   end or nil
end

--- Parses a format.
-- @string format as in Dovecot's configuration
-- @treturn function of a table with `uid`, `uidvalidity` (integers), `filename`, `guid`, `md5` (strings), of these
-- what is needed; it returns a string.  nil: the format cannot be used
-- @treturn table the variables that are needed, as keys; `exact`: two UIDs never look alike.  Or what is wrong
function uidl_format.parse(format)
   local parts, why = parse_parts(format)
   local needs = {}
   for _, part in ipairs(parts or {}) do
      needs[part.name or "%"] = true
      needs.exact = needs.exact or part.name == "uid" and part.directive ~= nil
   end
   needs["%"] = nil
   if parts and not (needs.uid or needs.filename or needs.guid or needs.md5) then
      why = "nothing in it tells messages apart"
   end
   if why then
      return nil, ("'%s': %s"):format(format, why)
   end
   return quick(parts) or slow(parts), needs
end

return uidl_format
