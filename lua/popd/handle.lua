--- Message handles: whatever a storage's `get` may return, made readable.
--
-- A handle is a string; `{ path =, offset =, length = }` (with `follow = false`
-- the path must not be a symbolic link); an open file; a
-- function (an LTN12 source); an object with `read` and perhaps `close`; or
-- `{ headers =, body = }`.
-- @module popd.handle
local core = require("popd.core")
local use = require("popd.use")

local handle = {}

local READ = 65536

local function check_chunk(chunk, err)
   if chunk == nil then
      if err ~= nil then
         error(err, 0)
      end
      return nil
   end
   if type(chunk) ~= "string" then
      error(("a message source returned a %s; a string, or nil at its end, expected"):format(type(chunk)), 0)
   end
   return chunk
end

local function of_function(f)
   return function()
      return check_chunk(f())
   end
end

-- An object's read may return less than it was asked for, and "" for more later.
local function of_reader(object)
   local function close()
      if object.close then
         object:close()
      end
   end
   return function()
      return check_chunk(object:read(READ))
   end, close
end

-- For Lua's own files, read(n) returns nil at the end and nil, text on errors.
local function of_source(source)
   return function()
      return check_chunk(core.source_read(source))
   end
end

local function check_field(name, value)
   if type(name) ~= "string" or not name:find("^[!-9;-~]+$") then
      error(("headers: %q is not a header field's name"):format(tostring(name)), 0)
   end
   if type(value) ~= "string" and type(value) ~= "number" then
      error(("headers: the value of %s is a %s, a text expected"):format(name, type(value)), 0)
   end
   value = tostring(value)
   if value:find("[\r\n]") then
      error(("headers: the value of %s holds a line end"):format(name), 0)
   end
   return name .. ": " .. value .. "\r\n"
end

local function add_field(lines, name, value)
   if type(value) ~= "table" then
      lines[#lines + 1] = check_field(name, value)
      return
   end
   for _, one in ipairs(value) do
      lines[#lines + 1] = check_field(name, one)
   end
end

-- A list of { name, value }, or a map, which is sorted by name.
local function compose(headers)
   local lines = {}
   for _, field in ipairs(headers) do
      add_field(lines, field[1], field[2])
   end
   local names = {}
   for name in pairs(headers) do
      if type(name) ~= "number" then
         names[#names + 1] = name
      end
   end
   table.sort(names)
   for _, name in ipairs(names) do
      add_field(lines, name, headers[name])
   end
   return table.concat(lines) .. "\r\n"
end

local function of_composed(h)
   local ok, head = pcall(compose, h.headers)
   if not ok then
      return nil, head
   end
   local body, close = handle.pull(h.body == nil and "" or h.body)
   if not body then
      return nil, close
   end
   return function()
      if head then
         local first = head
         head = nil
         return first
      end
      return body()
   end, close
end

local function of_string(s)
   return function()
      local chunk = s
      s = nil
      return chunk
   end
end

local function is_range(h)
   local offset, length = h.offset, h.length
   return type(h.path) == "string" and not h.path:find("\0", 1, true)
      and (offset == nil or math.type(offset) == "integer" and offset >= 0)
      and (length == nil or math.type(length) == "integer" and length >= 0)
end

local function readable(h)
   local t = type(h)
   return (t == "table" or t == "userdata") and pcall(function()
      assert(h.read)
   end)
end

--- Makes the handle a function that returns chunks and nil at the end, and
-- raises what goes wrong.
-- @param h
-- @treturn func the pull function, or nil and the reason
-- @return a close function, or nil
function handle.pull(h)
   local t = type(h)
   if t == "string" then
      return of_string(h)
   elseif t == "function" then
      return of_function(h)
   elseif t == "table" and h.path ~= nil then
      local source, why = handle.source(h)
      if not source then
         return nil, why
      end
      return of_source(source)
   elseif t == "table" and type(h.headers) == "table" then
      return of_composed(h)
   elseif io.type(h) == "closed file" then
      return nil, "the message handle is a closed file"
   elseif readable(h) then
      return of_reader(h)
   end
   return nil, ("a %s is no message handle; a string, { path = }, a file, a function, { headers =, body = } or "
      .. "an object with read expected"):format(t)
end

-- Sockets that a message is read from are the session's until it is through.
local function held(pull, close)
   local one
   return function()
      one = one or use.begin()
      local chunk = pull()
      if chunk == nil then
         use.finish(one, true)
      end
      return chunk
   end, function()
      if one then
         use.finish(one, false)
      end
      if close then
         close()
      end
   end
end

--- Makes the handle a source for the C core.
-- @param h
-- @treturn userdata or nil and the reason
function handle.source(h)
   if type(h) == "string" then
      return core.source_bytes(h)
   end
   if type(h) == "table" and h.path ~= nil then
      if not is_range(h) then
         return nil, "a message handle's path is a string without NUL, its offset and length integers of 0 or more"
      end
      return core.source_file(h.path, h.offset, h.length, h.follow)
   end
   local pull, close = handle.pull(h)
   if not pull then
      return nil, close
   end
   return core.source_pull(held(pull, close))
end

--- Whether making a source of it calls nothing of the site's.
-- @param h
-- @treturn boolean
function handle.is_plain(h)
   return type(h) == "string" or type(h) == "table" and not getmetatable(h) and h.path ~= nil
end

local function read_all(pull, close, feed)
   local ok, err = pcall(function()
      for chunk in pull do
         feed(chunk)
      end
   end)
   if close then
      close()
   end
   if not ok then
      return nil, err
   end
   return true
end

-- Feeds all of a handle to a counter or hash of the core.
local function reduce(h, make)
   local pull, close = handle.pull(h)
   if not pull then
      return nil, close
   end
   local sum = make()
   local ok, err = read_all(pull, close, function(chunk)
      make(sum, chunk)
   end)
   if not ok then
      return nil, err
   end
   return make(sum)
end

--- Counts the octets of a message as POP3 sends them.
-- @param h a message handle
-- @treturn integer or nil and the reason
function handle.octets(h)
   return reduce(h, core.octets)
end

--- The digest of a message's content.
-- @param h a message handle
-- @treturn string SHA-256 in hex, or nil and the reason
function handle.digest(h)
   return reduce(h, core.hash)
end

return handle
