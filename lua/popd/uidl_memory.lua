--- What the unique-ids of a maildrop were in its last session.
--
-- A small file of its own in the maildrop's directory, read by nothing but the
-- alarm: it holds up to 64 messages' names and unique-ids, evenly chosen, and is
-- written when it has become of little use, not at each session.  Without it,
-- or where it cannot be written, everything else is as before.
-- @module popd.uidl_memory
local fs = require("popd.fs")

local uidl_memory = {}

local FILE = "popd-unique-ids"
local HEADER = "popd-unique-ids 1\n"
local MOST = 64 -- messages
local OCTETS_MAX = 32768

local LINE = "^([!-~]+) ([!-~]+)\n()"

local function parse(text)
   local known, at, count = {}, #HEADER + 1, 0
   while at <= #text do
      local id, name, next_at = text:match(LINE, at)
      count = count + 1
      if not id or count > MOST then
         return nil
      end
      known[name], at = id, next_at
   end
   return known
end

--- Whether there is one.
-- @string dir
-- @treturn boolean
function uidl_memory.exists(dir)
   return fs.stat(dir .. "/" .. FILE) ~= nil
end

--- Reads it.
-- @string dir
-- @treturn table unique-ids by name; nil: there is none that can be used
function uidl_memory.read(dir)
   local path = dir .. "/" .. FILE
   local st = fs.stat(path)
   local text = st and st.type == "file" and fs.read(path, OCTETS_MAX)
   return text and text:sub(1, #HEADER) == HEADER and parse(text) or nil
end

--- Compares it with what is there now.
-- @tparam table known as `read` returns it
-- @tparam table names of the messages
-- @tparam table ids their unique-ids
-- @treturn integer how many known messages are still there
-- @treturn integer how many of them have another unique-id
-- @treturn string one of these messages' names, if any
function uidl_memory.compare(known, names, ids)
   local there, changed, example = 0, 0, nil
   for i, name in ipairs(names) do
      local id = known[name]
      if id then
         there = there + 1
         if id ~= ids[i] then
            changed, example = changed + 1, example or name
         end
      end
   end
   return there, changed, example
end

-- Messages at even distances.
local function choose(names, ids)
   local lines, count = {}, math.min(#names, MOST)
   for j = 1, count do
      local i = (j - 1) * #names // count + 1
      if names[i]:find("^[!-~]+$") then
         lines[#lines + 1] = ("%s %s\n"):format(ids[i], names[i])
      end
   end
   return table.concat(lines)
end

--- How many messages a memory of so many holds at most.
-- @int count
-- @treturn integer
function uidl_memory.worth(count)
   return math.min(count, MOST)
end

--- Writes it: whole, or not at all.
-- @string dir
-- @tparam table names of the messages
-- @tparam table ids their unique-ids
-- @treturn boolean true; or nil, the reason and the error's name
function uidl_memory.write(dir, names, ids)
   local text, fresh = HEADER .. choose(names, ids), ("%s/tmp/%s"):format(dir, FILE)
   if #text > OCTETS_MAX then
      return nil, "the names are too long"
   end
   local ok, err, code = fs.write(fresh, text)
   if code == "EEXIST" and fs.unlink(fresh) then -- a crash left it there
      ok, err, code = fs.write(fresh, text)
   end
   if not ok then
      return nil, err, code
   end
   ok, err, code = fs.rename(fresh, dir .. "/" .. FILE)
   if not ok then
      fs.unlink(fresh)
   end
   return ok, err, code
end

return uidl_memory
