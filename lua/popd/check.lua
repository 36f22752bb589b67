--- Checks a storage by real sessions: what a server will rely on, and where
-- exactly the storage does otherwise.
-- @module popd.check
-- @usage
-- assert(popd.check(storage, { mbox = "joe", put = function(mbox, text) deliver(mbox, text) end }))
local core = require("popd.core")
local forms = require("popd.forms")
local fs = require("popd.fs")
local handle = require("popd.handle")
local mock = require("popd.mock")
local rules = require("popd.rules")
local samples = require("popd.samples")
local server_options = require("popd.options")
local verdicts = require("popd.verdicts")
local witness = require("popd.witness")

local check = {}

local TIMEOUT = 30 -- seconds; the default of callback_timeout
local SAMPLE = 30 -- messages that are fetched from each end of a large maildrop
local KEYWORD = "XPOPDCHECK"

local STOP = {} -- raised where going on would tell nothing more

-- Findings ------------------------------------------------------------------

local Run = {}
Run.__index = Run

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

-- The whole -------------------------------------------------------------------

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

local function first_session(run)
   if run.put then
      for number = 1, run.samples.count do
         run:deliver(number)
      end
   end
   local c = run:login()
   local seen = run:look(c, verdicts.message(run))
   run.last_n = seen.n
   run:stop_at("handle", "answer", "raise")
   if run.put then
      run:expect_delivered(seen, 1, run.samples.count)
   end
   verdicts.total(run, seen)
   verdicts.scan(run, seen)
   verdicts.uids(run, seen)
   verdicts.top(run, c, seen)
   if run.storage.renew then
      run:look_at("renew")
      run:ask(c, "renew")
   end
   if run.put then
      run:deliver_meanwhile(run.samples.count + 1)
   end
   local again = run:look(c)
   local is_there = run.put and not run.late
   verdicts.fixed(run, seen, again, "ids", is_there and "put has delivered a message meanwhile" or "it was asked twice")
   run:stop_at("ids", "put", "top")
   return c, seen
end

-- Numbers that no message has: whatever is answered, nothing may come of it.
local function probe_range(run, c, seen)
   run.witness.lenient = true
   for _, id in ipairs { 0, seen.n + 1 } do
      for _, operation in ipairs { "get", "size", "uidl", "top" } do
         if run.storage[operation] then
            run:ask(c, operation, id, operation == "top" and 0 or nil)
         end
      end
   end
   local again = run:look(c)
   run.witness.lenient = false
   verdicts.fixed(run, seen, again, "range", "it was asked for numbers that no message has", true)
   run:stop_at("range")
end

local function mark(run, c, ids)
   for _, id in ipairs(ids) do
      run:send(c, "DELE " .. id)
   end
end

-- What ends a session and deletes nothing.
local function judge_harmless_ends(run, seen)
   local c = run:login()
   local now = run:look(c)
   verdicts.next(run, seen, now, "quit-only", "QUIT, with nothing marked")
   if run.put then
      run:expect_delivered(now, run.samples.count + 1, run.samples.count + 1)
   end
   local ids = run:deletable(now)
   local ends = {
      { "RETR, then a client that leaves in the middle", "cut", function(s)
         run:leave(s, now.n > 0 and "RETR " .. (run.samples.big(now) or now.n) or nil)
      end },
   }
   if ids[1] then
      table.insert(ends, 1, { "DELE, RSET, QUIT", "quit-only", function(s)
         mark(run, s, ids)
         run:send(s, "RSET")
         run:quit(s)
      end })
      table.insert(ends, 2, { "DELE, then a client that leaves without QUIT", "quit-only", function(s)
         mark(run, s, ids)
         run:leave(s)
      end })
   end
   for _, row in ipairs(ends) do
      row[3](c)
      c = run:login()
      local after = run:look(c)
      verdicts.next(run, now, after, row[2], row[1])
      now = after
   end
   return c, now
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

local function judge_locks(run, c, seen)
   if not run.storage.lock then
      return
   end
   run:intrude("lock", "true, while another session has the maildrop")
   run:intrude("lock-kept", "true, though another session has the maildrop: the one that was refused before "
      .. "has freed the holder's lock")
   verdicts.fixed(run, seen, run:look(c), "lock-kept", "other sessions were refused meanwhile")
   if run.mboxes.other == nil then
      return
   end
   local other = run:try("other")
   local lock = run.witness.last.lock
   run:expect("lock-other", other ~= nil or not lock.good, lock.call, "false, though only %s is locked",
      witness.show(run.mbox))
   if other then
      run:leave(other)
      run:intrude("lock-other", "true, though another session has the maildrop: "
         .. "unlock of the other maildrop has freed it")
   end
end

local function set_of(ids, value)
   local set = {}
   for _, id in ipairs(ids) do
      set[id] = value
   end
   return set
end

-- Of what may be deleted the first, the third and the last.
local function choose(ids)
   local chosen = {}
   for i, id in ipairs(ids) do
      if i == 1 or i == 3 or i == #ids then
         chosen[#chosen + 1] = id
      end
   end
   return chosen
end

-- Deletes by a session; the next one, and what it shows.
local function delete(run, c, seen, ids)
   mark(run, c, ids)
   run.witness.last.dele = nil
   run:quit(c)
   local call = run.witness.last.dele
   local after_c = run:login()
   local after = run:look(after_c)
   verdicts.next(run, seen, after, "dele-more", run:call("dele", ids),
      set_of(ids, call and call.good and "gone" or "perhaps")) -- who fails may have deleted some
   return after_c, after
end

-- A session that deletes what another one has deleted already: only where
-- sessions do not exclude each other.
local function judge_gone(run, late, seen)
   run.witness.lenient = true
   run:quit(late)
   run.witness.lenient = false
   local c = run:login()
   local after = run:look(c)
   verdicts.next(run, seen, after, "gone", "dele of messages that another session has deleted")
   return c, after
end

local function judge_deletion(run, c, seen)
   local ids = choose(run:deletable(seen))
   if not ids[1] then
      run:leave(c)
      return
   end
   local late = not run.storage.lock and run:login()
   if late then
      mark(run, late, ids)
   end
   c, seen = delete(run, c, seen, ids)
   if late then
      run:leave(c)
      c, seen = judge_gone(run, late, seen)
   end
   run:leave(c)
   return seen
end

-- A message that comes after a deletion has a unique-id that none ever had.
local function judge_reuse(run, past)
   local number = run.samples.count + 2
   run:deliver(number)
   local c = run:login()
   local seen = run:look(c)
   local new = run:expect_delivered(seen, number, number)[run.samples.name(number)]
   if new and new.uid then
      run:expect("uid-reused", not past[new.uid], run:call("uidl", new.id), "%q, which a deleted message had", new.uid)
   end
   return c, seen
end

local function steps(run)
   run.desk = run:client()
   local c, seen = first_session(run)
   probe_range(run, c, seen)
   run:quit(c)
   run:deliver_late()
   c, seen = judge_harmless_ends(run, seen)
   judge_locks(run, c, seen)
   local past = {}
   for id = 1, seen.n do
      past[seen[id].uid or ""] = true
   end
   if judge_deletion(run, c, seen) and run.put then
      c, seen = judge_reuse(run, past)
      c = delete(run, c, seen, run:deletable(seen)) -- what was put, away again
      run:leave(c)
   end
end

local function close_all(run)
   for c in pairs(run.clients) do
      pcall(c.close, c)
   end
end

local function perform(run)
   for _, rule in ipairs { "hang", "raise", "answer" } do
      run:look_at(rule)
   end
   local ok, err = pcall(steps, run)
   close_all(run)
   if ok or err == STOP then
      run.stopped = not ok
      return
   elseif type(err) == "string" and err:find("waited %S+ s for ") then
      run.stopped = true
      run:fail("hang", "a session", err:match("waited.*"))
      return
   end
   error(err, 0)
end

-- Arguments -------------------------------------------------------------------

local known = {
   mbox = "any value", put = "function", destructive = "boolean", other = "any value", timeout = "number",
}

local function check_arguments(storage, options)
   server_options.check("storage", storage, 3)
   if type(options) ~= "table" or options.mbox == nil then
      error("popd.check: options with an mbox expected, { mbox = … [, put = …] }", 3)
   end
   for name, value in pairs(options) do
      local kind = known[name]
      if not kind then
         error(("popd.check: unknown option '%s'; there are: destructive, mbox, other, put, timeout"):format(
            tostring(name)), 3)
      elseif not kind:find("^any") and type(value) ~= kind then
         error(("popd.check: option '%s': a %s expected"):format(name, kind), 3)
      end
   end
   if options.timeout and not (options.timeout > 0 and options.timeout <= 1e9) then
      error("popd.check: option 'timeout': seconds above 0 expected", 3)
   end
end

--- Checks a storage.
--
-- It opens sessions of one maildrop, as clients would, and asks each function as
-- the server does.  It deletes nothing but what `put` has put there, unless
-- `destructive` says so.  Whatever raises, waits for ever or answers nonsense is
-- told; nothing of it is raised.  It works in plain Lua (busted) and inside tasks.
-- @param storage as `popd.new` takes it
-- @tparam table options `mbox`: a maildrop, as auth would return it, which nobody
-- else uses meanwhile, or a function that returns it for each login;
-- `put(mbox, text)`: delivers a message, which must be there when the next session
-- begins; where it fails while a session is open it is called again behind that;
-- `destructive = true`: messages of the maildrop may be deleted; `other`: a
-- second maildrop, so that locks of different ones can be told apart; `timeout`:
-- seconds for each call, 30
-- @treturn boolean true, or nil
-- @treturn table the report: an array of what is wrong, each `{ rule =, call =, got = }`;
-- with `rules`, an array of all rules in order: each with `rule`, `state` (`"held"`,
-- `"failed"`, `"unchecked"`), `text`, and `advice` or `why`.  `tostring` makes it text
-- @usage local ok, report = popd.check(storage, { mbox = "joe", put = deliver })
-- print(report)
function check.run(storage, options)
   check_arguments(storage, options)
   local run = setmetatable({
      storage = forms.storage(storage), mbox = options.mbox, mboxes = { mbox = options.mbox, other = options.other },
      put = options.put, destructive = options.destructive or false, timeout = options.timeout or TIMEOUT,
      samples = samples.new(core.random(6)), clients = {}, report = {}, known = {}, failed = {}, looked = {},
   }, Run)
   run.witness = witness.new(run.storage, function(rule, call, got)
      run:fail(rule, call, got)
   end)
   perform(run)
   return not run.report[1] or nil, rules.report(run)
end

return check
