--- Whose a socket is at the moment, so that no answer reaches a session that it
-- was not for.
--
-- A *use* is a stretch of one session's code into which nobody else's may cut: a
-- callback, a loan of `popd.pool`, what runs by `popd.mutex`, a message that is read from a
-- socket.  The sockets that it touches are its own until it ends.  A party is
-- whoever uses them: a connection, a spawned function, or the main chunk.
-- @module popd.use
local core = require("popd.core")

local use = {}

local now = {} -- by party, the innermost use under way

--- Begins a use of the running code's party.
function use.begin()
   local party = core.party()
   local made = { party = party, before = now[party], open = true }
   now[party] = made
   return made
end

-- Whether an answer may still come on it, or did and was not read.
local function is_settled(sock)
   return sock.raw and not sock.owed and not sock.soiled and not sock.asker and not sock.raw:pending()
end

--- Ends a use.
-- @param one
-- @tparam boolean ok false: it was broken off, perhaps in the middle of an answer, so that nobody but its own party
-- goes on with its sockets (nor later: an answer that came whole afterwards may have been an earlier one's)
-- @treturn boolean whether others may use its sockets
function use.finish(one, ok)
   if not one.open then
      return ok
   end
   one.open = false
   local top = now[one.party]
   while top and not top.open do
      top = top.before
   end
   now[one.party] = top
   if not one[1] then
      return ok -- most touch no socket
   end
   local settled = ok
   for i, sock in ipairs(one) do
      if not ok or sock.owed then
         sock.soiled = true
      end
      settled = settled and is_settled(sock)
      one[i] = nil
   end
   return settled and true or false
end

--- Whether somebody else's use of a socket is under way.
function use.is_foreign(sock, party)
   local one = sock.use
   return one and one.open and one.party ~= party
end

--- The running code touches a socket.
function use.touch(sock, party)
   local one = now[party]
   if one and sock.noted ~= one then
      one[#one + 1] = sock
      sock.noted = one
   end
   if not (sock.use and sock.use.open) then
      sock.use = one
   end
end

local function ended(one, ward, ...)
   ward:disarm()
   use.finish(one, true)
   return ...
end

--- Calls f as a use of its own.
function use.run(f, ...)
   local one = use.begin()
   local ward <close> = core.ward(use.finish, one, false)
   return ended(one, ward, f(...))
end

return use
