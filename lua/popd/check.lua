--- Checks a storage by real sessions: what a server will rely on, and where
-- exactly the storage does otherwise.
-- @module popd.check
-- @usage
-- assert(popd.check(storage, { mbox = "joe", put = function(mbox, text) deliver(mbox, text) end }))
local Run = require("popd.checkrun")
local core = require("popd.core")
local forms = require("popd.forms")
local rules = require("popd.rules")
local samples = require("popd.samples")
local server_options = require("popd.options")
local verdicts = require("popd.verdicts")
local witness = require("popd.witness")

local check = {}

local TIMEOUT = 30 -- seconds; the default of callback_timeout

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
   if ok or err == Run.STOP then
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
