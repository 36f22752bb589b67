--- What goes through a socket: sending and receiving.
-- @module popd.socketoctets
local core = require("popd.core")
local socketuse = require("popd.socketuse")

local enter, try = socketuse.enter, socketuse.try
local note_sending, note_received = socketuse.note_sending, socketuse.note_received

local socketoctets = {}

local PIECE = 65536 -- octets taken at a time

-- LuaSocket's limits of a part: negative ones count from the end.
local function range_of(data, from, to)
   from, to = from or 1, to or -1
   from = from < 0 and #data + from + 1 or from
   to = to < 0 and #data + to + 1 or to
   return math.max(from, 1), math.min(to, #data)
end

--- Sends octets.
-- @string data
-- @tparam[opt=1] integer from the first octet that is sent
-- @tparam[opt=-1] integer to the last one
-- @treturn integer the last one that was sent; or nil, the reason, and the last one that was sent
function socketoctets:send(data, from, to)
   data = type(data) == "number" and tostring(data) or data
   if type(data) ~= "string" then
      error(("send: a string expected, got a %s"):format(type(data)), 2)
   end
   from, to = range_of(data, from, to)
   local raw, why = enter(self, false)
   if not raw then
      return nil, why, from - 1
   end
   local started, at = core.now(), from
   note_sending(self)
   while at <= to do
      local put
      put, why = try(self, "w", started, raw.send, data, at, to)
      if not put then
         return nil, why, at - 1
      end
      at = at + put
   end
   if self.owed == "w" then
      self.owed = nil
   end
   return at - 1
end

-- Takes octets until f says that it is enough: the parts, joined, or nil, why, and they.
local function gather(self, prefix, f)
   local parts = { prefix }
   local ok, why = f(parts)
   if parts[2] then
      note_received(self, ok)
   end
   local all = table.concat(parts)
   if ok then
      return all
   end
   return nil, why, all
end

local function receive_line(self, raw, started)
   return function(parts)
      while true do
         local piece, whole = try(self, "r", started, raw.line)
         if not piece then
            return nil, whole
         end
         parts[#parts + 1] = piece
         if whole then
            return true
         end
      end
   end
end

local function receive_octets(self, raw, started, n)
   return function(parts)
      if n == 0 and parts[1] == "" then -- LuaSocket's way to ask whether there is something
         return try(self, "r", started, raw.receive, 0)
      end
      while n > 0 do
         local piece, why = try(self, "r", started, raw.receive, math.min(n, PIECE))
         if not piece then
            return nil, why
         end
         parts[#parts + 1] = piece
         n = n - #piece
      end
      return true
   end
end

local function receive_all(self, raw, started)
   return function(parts)
      while true do
         local piece, why = try(self, "r", started, raw.receive, PIECE)
         if piece then
            parts[#parts + 1] = piece
         else
            return why == "closed" and parts[2] ~= nil, why
         end
      end
   end
end

local patterns = { ["*l"] = receive_line, l = receive_line, ["*a"] = receive_all, a = receive_all }

--- Receives.
-- @tparam[opt="*l"] string|number pattern `"*l"`: a line, without its end and without CRs; `"*a"`: all until the
-- other side closes; a number: so many octets
-- @string[opt=""] prefix what was received before, put in front; a number's octets include it
-- @treturn string what was received; or nil, the reason, and what there was of it
function socketoctets:receive(pattern, prefix)
   prefix = prefix == nil and "" or tostring(prefix)
   local number = type(pattern) == "number" and pattern or tonumber(pattern)
   local how = patterns[pattern or "*l"]
   if not how and not (number and number >= 0) then
      error("receive: invalid receive pattern; \"*l\", \"*a\" or a number of octets expected", 2)
   end
   local raw, why = enter(self, true)
   if not raw then
      return nil, why, prefix
   end
   local started = core.now()
   if how then
      return gather(self, prefix, how(self, raw, started))
   end
   return gather(self, prefix, receive_octets(self, raw, started, math.floor(number) - #prefix))
end

--- Takes what is there, and waits for the first octet of it: so a socket is a message handle.
-- @tparam integer n octets at most
-- @treturn string 1 to n octets; nil once the other side has closed; or nil and the reason
function socketoctets:read(n)
   local raw, why = enter(self, true)
   if not raw then
      return nil, why
   end
   local piece
   piece, why = try(self, "r", core.now(), raw.receive, n)
   if piece then
      note_received(self, true)
      return piece
   end
   return nil, why ~= "closed" and why or nil
end

return socketoctets
