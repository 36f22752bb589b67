--- Who uses a socket at the moment, and what it is still owed, so that no answer reaches a session that it was not
-- for; and the waiting.
-- @module popd.socketuse
local core = require("popd.core")
local use = require("popd.use")

local socketuse = {}

-- Seconds: the most that a wait takes.
socketuse.FOREVER = 1e9

-- LuaSocket's "b" is for each wait, "t" for the call as a whole.
local function patience(self, started)
   local left = self.total and started + self.total - core.now()
   if self.block then
      left = left and math.min(left, self.block) or self.block
   end
   return left and math.min(math.max(left, 0), socketuse.FOREVER)
end

-- What a socket knows of its use: `busy`, somebody waits on it; `use` (see popd.use);
-- `party`, who used it last; `owed`, a wait of that one ("r", "w") timed out; `soiled`, and yet it
-- went on sending, or its use ended with that, so that answers come late for good; `asker`, who has sent
-- and read nothing since; `asked`, in which use.

local IN_USE = "socket in use: another callback uses it; share sockets by popd.pool or popd.mutex"
local UNREAD = "socket in use: another session has sent on it and not read the answer; it is closed now. "
   .. "Share sockets by popd.pool"

local NOT_CONNECTED = "Transport endpoint is not connected"
local NOT_SECURE = "the TLS handshake is not done"

local function drop(self)
   local raw = self.raw
   self.raw, self.owed, self.soiled, self.asker = nil, nil, nil, nil
   if raw then
      local received, sent = raw:counts()
      self.received, self.sent = self.received + received, self.sent + sent
      raw:close()
   end
end

-- A script's main chunk is no session: what it began anybody may go on with.
local MAIN = 0
local SEVERAL = -1 -- sessions that have sent

local function check_use(self, level)
   if self.busy or use.is_foreign(self, core.party()) then
      error(IN_USE, level + 1)
   end
end

-- Whether an answer may be on its way that is not for who comes now.
local function is_stale(self, raw, party)
   return self.party ~= party and self.party ~= MAIN and (self.owed or self.soiled or raw:pending())
end

-- Begins an operation: the core's socket, or nil and the reason.  Where TLS is
-- meant no data leave, or are taken, in the clear.
local function enter(self, receives, handshake)
   check_use(self, 3)
   local raw, party = self.raw, core.party()
   if not raw then
      return nil, "closed"
   elseif not self.connected then
      return nil, NOT_CONNECTED
   elseif self.context and not (self.secured or handshake) then
      return nil, NOT_SECURE
   elseif is_stale(self, raw, party) then
      drop(self)
      return nil, "closed"
   elseif receives and self.asker and self.asker ~= party then
      drop(self)
      error(UNREAD, 3)
   end
   self.party = party
   use.touch(self, party)
   return raw
end

-- Calls a function that waits.  A wait that is broken off leaves an answer on its
-- way: the socket is of no more use.
local function pause(self, f, ...)
   self.busy = true
   local ok, ready, why = pcall(f, ...)
   self.busy = false
   if not ok then
      drop(self)
      error(ready, 0)
   end
   return ready, why
end

-- Waits for the socket: true, or nil and "timeout".
local function wait(self, mode, started)
   return pause(self, core.wait, self.raw:fd(), mode, patience(self, started))
end

-- Calls a function of the core's socket until it has a result: it, or nil and why.
local function try(self, mode, started, f, ...)
   while true do
      local result, second = f(self.raw, ...)
      if result or result == nil then
         return result, second
      end
      local ready, why = wait(self, second or mode, started)
      if not ready then
         self.owed = mode
         return nil, why
      end
   end
end

-- An answer that was not waited for, and another question: one that comes now may be the first one's.
local function note_sending(self)
   local party = self.party
   self.soiled = self.soiled or self.owed == "r" or self.asker == party and self.asked ~= self.noted or nil
   self.asked = self.noted
   if party ~= MAIN then
      self.asker = (self.asker or party) == party and party or SEVERAL
   end
end

-- Something was received: the answer has begun to be read.
local function note_received(self, whole)
   self.asker = nil
   if whole and self.owed == "r" then
      self.owed = nil
   end
end

socketuse.patience, socketuse.drop, socketuse.check_use, socketuse.enter = patience, drop, check_use, enter
socketuse.pause, socketuse.wait, socketuse.try = pause, wait, try
socketuse.note_sending, socketuse.note_received = note_sending, note_received

return socketuse
