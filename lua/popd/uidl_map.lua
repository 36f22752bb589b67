--- A map for a hundred thousand strings, in many small tables: where one large
-- table grows, everybody waits until all of it has moved.
-- @module popd.uidl_map
local uidl_map = {}

local TABLES = 64

-- Unique-ids and file names differ in their middle or at their end.
local function table_of(key)
   local third, fourth = key:byte(8, 9)
   local first, second = key:byte(-2, -1)
   return (first * 7 + (second or 0) * 3 + (third or 0) * 5 + (fourth or 0)) % TABLES + 1
end

local Map = {}
Map.__index = Map

--- Makes an empty one, which costs nothing yet: most logins need none.
-- @return an object with `get` and `set`
function uidl_map.new()
   return setmetatable({}, Map)
end

--- The value of a key.
-- @function Map:get
-- @string key not empty
function Map:get(key)
   local part = self[table_of(key)]
   return part and part[key]
end

--- Sets a key's value.
-- @function Map:set
-- @string key not empty
-- @param value
function Map:set(key, value)
   local at = table_of(key)
   local part = self[at]
   if not part then
      part = {}
      self[at] = part
   end
   part[key] = value
end

return uidl_map
