--- One run of `popd.check`: its sessions, deliveries and looks at messages, and what it finds.
-- @module popd.checkrun
local fs = require("popd.fs")
local handle = require("popd.handle")
local mock = require("popd.mock")
local witness = require("popd.witness")

local SAMPLE = 30 -- messages that are fetched from each end of a large maildrop
local KEYWORD = "XPOPDCHECK"

local STOP = {} -- raised where going on would tell nothing more

-- Findings ------------------------------------------------------------------

local Run = {}
Run.__index = Run
Run.STOP = STOP

-- One finding for each rule and function: the first; later ones are counted.
function Run:fail(rule, call, got)
   local key = rule .. " " .. (call:match("^%w+") or "")
   local known = self.known[key]
   if known then
      known.more = known.more + 1
      return
   end
   known = { rule = rule, call = call, got = got, more = 0 }
   self.known[key], self.failed[rule] = known, true
   table.insert(self.report, known)
end

function Run.stop()
   error(STOP, 0)
end

-- Goes no further where one of these rules is broken: what follows would tell of
-- nothing else, in other words.
function Run:stop_at(...)
   for _, rule in ipairs { ... } do
      if self.failed[rule] then
         error(STOP, 0)
      end
   end
end

-- The rule was looked at.
function Run:look_at(rule)
   self.looked[rule] = true
end

function Run:expect(rule, holds, call, got, ...)
   self:look_at(rule)
   if not holds then
      self:fail(rule, call, got:format(...))
   end
   return holds
end

function Run:call(operation, ...)
   return witness.call(operation, self.mbox, table.pack(...))
end

-- Sessions ------------------------------------------------------------------

-- Whatever a call under way means after the reply has come.
function Run:settle()
   if self.witness:is_stuck() then
      error(STOP, 0)
   end
end

-- A function gives the mbox of one session, as lookup does.
local function mbox_of(value)
   if type(value) == "function" then
      return value()
   end
   return value
end

function Run:client()
   local c = mock.new {
      auth = { verify = function(name) return mbox_of(self.mboxes[name]) end },
      storage = self.witness.storage,
      commands = { [KEYWORD] = { states = "both", run = function() self.job() return "done" end } },
      callback_timeout = self.timeout, plain_login = "always", failure_delay = false, max_failures = false,
      login_timeout = false, idle_timeout = false, max_bad_commands = false, renew_interval = false,
   }
   self.clients[c] = true
   return c
end

function Run:send(c, command)
   local line, lines, body = c:send(command)
   self:settle()
   return line, lines, body
end

function Run:leave(c, command)
   self.clients[c] = nil
   c:close(command)
   self:settle()
end

local function is_ok(line)
   return line ~= nil and line:sub(1, 3) == "+OK"
end

-- Tries to log in: a client that has, or nil and what was said.
function Run:try(name)
   local c = self:client()
   self:send(c, "USER " .. name)
   local line = self:send(c, "PASS check")
   if is_ok(line) then
      return c
   end
   self:leave(c)
   return nil, line
end

-- A session; where there is none nothing more can be checked.
function Run:login()
   local c, line = self:try("mbox")
   if c then
      if self.entered and self.storage.lock then
         self:look_at("unlock")
      end
      self.entered = true
      return c
   end
   local lock = self.witness.last.lock
   if self.storage.lock and not lock.good then
      error(STOP, 0) -- told already
   elseif self.storage.lock and not lock.answers[1] then
      self:fail(self.entered and "unlock" or "lock", lock.call, ("%s, though no session has the maildrop%s"):format(
         witness.show(lock.answers[1]), self.entered and ": the one before has ended, and unlock was called" or ""))
   elseif not next(self.failed) then
      self:fail("answer", "a login", line or "the connection was closed")
   end
   error(STOP, 0)
end

function Run:quit(c)
   local line = self:send(c, "QUIT")
   self:leave(c)
   return is_ok(line)
end

-- Runs f as a callback of the client's connection, with a callback's guards: what
-- it returns behind true, or what pcall does.
function Run:within(c, f)
   local results = { false, "it did not come back", n = 2 }
   self.job = function()
      results = table.pack(pcall(f))
   end
   c:send(KEYWORD)
   self:settle()
   return table.unpack(results, 1, results.n)
end

-- Calls a function of the storage as the server does: its first two answers, if
-- they are any.
function Run:ask(c, operation, first, second)
   local f = self.witness.storage[operation]
   local args = operation == "size" and { first, n = 1 } or table.pack(first, second)
   local n = operation == "size" and 1 or second ~= nil and 2 or first ~= nil and 1 or 0
   args[n + 1] = c.conn
   self:within(c, function()
      f(c.conn.storage, table.unpack(args, 1, n + 1))
   end)
   local entry = self.witness.last[operation]
   if entry.good then
      return entry.answers[1], entry.answers[2]
   end
end

-- Messages ------------------------------------------------------------------

-- Why the handle of a message gives no whole message.
function Run:why_broken(c, id)
   local ok, n, why = self:within(c, function()
      return handle.octets(self.witness.storage.get(c.conn.storage, id, c.conn))
   end)
   if not ok then
      return witness.text_of(n)
   end
   return n and "it became shorter while it was read" or witness.text_of(why)
end

-- A message as it was sent; nil where it could not be had, which was told.
function Run:fetch(c, id)
   self:look_at("handle")
   self.witness.last.get = nil
   local line, _, body = self:send(c, "RETR " .. id)
   if body then
      return body
   end
   local call = self.witness.last.get
   if line and call and call.good and not self:send(c, "NOOP") then
      line = nil -- a guard has ended the session behind its -ERR
   end
   if not line then
      self:leave(c)
      c = self:login()
   end
   if call and call.good then
      local why = self:why_broken(c, id)
      self:fail(witness.is_over_time(why) and "hang" or "handle", call.call,
         ("%s, which cannot be read to its end: %s"):format(witness.show(call.answers[1]), why))
   end
   if not line then
      error(STOP, 0)
   end
end

-- Whether the handle that get returned last is one of a file whose length is
-- told wrong: without it the message would have `octets`.
function Run:is_wrong_length(c, octets, sent)
   local h = self.witness.last.get.answers[1]
   if type(h) ~= "table" or type(h.path) ~= "string" or h.length == nil then
      return false
   end
   local _, whole = self:within(c, function()
      return (handle.octets { path = h.path, offset = h.offset, follow = h.follow })
   end)
   if whole ~= octets or whole == sent then
      return false
   end
   self:fail("handle", self.witness.last.get.call, ("%s, of which %d octets are sent; without that length %d"):format(
      witness.show(h), sent, whole))
   return true
end

-- Whether a message is one that was put, by its first line.
function Run:is_put(c, id)
   local _, _, head = self:send(c, ("TOP %d 0"):format(id))
   return head and self.samples.token(head)
end

-- The numbers of the messages that are looked at closely: some from each end, and
-- wherever they are those that were put.
function Run:sample(c, n)
   local ids = {}
   for id = 1, n do
      if id <= SAMPLE or id > n - SAMPLE or self.put and self:is_put(c, id) then
         ids[#ids + 1] = id
      end
   end
   return ids
end

-- A unique-id as the client would be told it; nil where the storage has none of
-- its own.
function Run:uid(c, seen, id)
   if not self.own_uids then
      return nil
   end
   return seen.scanned_uids and seen.scanned_uids[id] or self.storage.uidl and self:ask(c, "uidl", id) or nil
end

-- All that a session shows: `n`, `total`, and the messages by number, each with
-- `uid`, and of those that are fetched, whose numbers are in `sample`, `size`,
-- `asked_uid`, `octets`, `digest`, `token`.  `judge(c, message, body)` is called for
-- each of these.
function Run:look(c, judge)
   local seen = { n = c.conn.msg }
   local scan = self.witness.last.scan -- of the login: a server asks it once
   if scan then
      seen.scanned_sizes, seen.scanned_uids = scan.answers[1], scan.answers[2]
   end
   self.own_uids = self.storage.uidl or self.storage.uidl ~= false and seen.scanned_uids ~= nil
   seen.total = judge and self.storage.size and self:ask(c, "size")
   for id = 1, seen.n do
      seen[id] = { id = id, uid = self:uid(c, seen, id) }
   end
   seen.sample = self:sample(c, seen.n)
   for _, id in ipairs(seen.sample) do
      local m = seen[id]
      m.size = self.storage.size and self:ask(c, "size", id)
      m.asked_uid = self.storage.uidl and self:ask(c, "uidl", id)
      local body = self:fetch(c, id)
      if body then
         m.octets, m.digest, m.token = #body, fs.sha256(body), self.samples.token(body)
         if judge then
            judge(c, m, body)
         end
      end
   end
   return seen
end

-- Delivering ----------------------------------------------------------------

-- Delivers a message; what came of it where that failed, else nil.
function Run:try_to_deliver(number)
   local text = self.samples.text(number)
   local ok, answer, why = self:within(self.desk, function()
      return self.put(mbox_of(self.mbox), text)
   end)
   self:look_at("put")
   if ok and (answer or why == nil) and answer ~= false then
      return nil
   end
   return ok and ("%s, %s"):format(witness.show(answer), witness.show(why)) or "raised: " .. tostring(answer)
end

function Run:deliver(number)
   local got = self:try_to_deliver(number)
   if got then
      self:fail("put", "put(mbox, text)", got)
      error(STOP, 0)
   end
end

-- Delivers while a session is open.  A lock may keep deliverers out, as that of an
-- mbox file does: then the message comes as soon as the session has ended.
function Run:deliver_meanwhile(number)
   self.late = self:try_to_deliver(number) and number
end

function Run:deliver_late()
   if self.late then
      self:deliver(self.late)
   end
end

-- Whether what was put shows, now that a session begins.
function Run:expect_delivered(seen, first, last)
   local there = {}
   for id = 1, seen.n do
      there[seen[id].token or ""] = seen[id]
   end
   for number = first, last do
      self:expect("put", there[self.samples.name(number)] ~= nil, "put(mbox, text)",
         "message %s (its first line has that) is not there in the session that follows", self.samples.name(number))
   end
   return there
end

-- The numbers of the messages that may be deleted.
function Run:deletable(seen)
   local ids = {}
   for id = 1, seen.n do
      if self.put and seen[id].token or not self.put and self.destructive then
         ids[#ids + 1] = id
      end
   end
   return self.storage.dele and ids or {}
end

-- Another try to get in while a session has the maildrop.
function Run:intrude(rule, got)
   local c = self:try("mbox")
   local lock = self.witness.last.lock
   if c then
      self:leave(c)
   end
   self:expect(rule, not c or not lock.good, lock.call, got)
   self:stop_at(rule)
end

return Run
