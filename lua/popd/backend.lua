--- Asks a site's functions in the order that a session needs them.
--
-- The C core calls the functions of `backend.steps`, one at a time for each
-- connection; each may wait.  What they return to C is plain values of known
-- type: nothing that a script returns reaches C unchecked.
-- @module popd.backend
local ask_module = require("popd.ask")
local contents = require("popd.contents")
local core = require("popd.core")
local forms = require("popd.forms")
local handle = require("popd.handle")
local holders = require("popd.holders")
local lists = require("popd.lists")
local login = require("popd.login")

local ask, fault, is_fault, wrong = ask_module.ask, ask_module.fault, ask_module.is_fault, ask_module.wrong
local hook, tell, log_fault, ask_aside = ask_module.hook, ask_module.tell, ask_module.log_fault, ask_module.ask_aside

local backend = {}

local GONE = "this message is not there any more"
local DELAY_MAX = 30 -- seconds; what failure_delay grows to

-- By these the core finds in a session's table what `steps.place` has noted there.
local STORAGE, GET, LIST, DIR = 1, 2, 3, 4

-- Locks -------------------------------------------------------------------

-- Who has it comes third: a second value is a fault's.
local function call_lock(f, mbox, conn)
   local got, second = f(mbox, conn)
   if holders.are_told(got, second) then
      return false, nil, second
   end
   return got, second
end

-- true, false (taken) and who has it, or a Fault; st.locked, since when, tells that unlock is
-- owed: also for a lock that was taken, but too late for the session.
local function lock(conn, st)
   if not st.storage.lock then
      return true
   end
   local got, _, holder = ask(conn, "storage.lock", call_lock, st.storage.lock, st.mbox, conn)
   if got == true or is_fault(got) and got.answer == true then
      st.locked = core.now()
      holders.note(st, conn)
   elseif got and not is_fault(got) then
      return wrong(conn, "storage.lock", "a boolean", got)
   end
   return got or false, holder
end

local function unlock(conn, st)
   if not st.locked then
      return
   end
   st.locked = false
   holders.forget(st)
   if st.storage.unlock then
      ask_aside(conn, "storage.unlock", st.storage.unlock, st.mbox, conn)
   end
end

-- A handle's source, or a Fault.
local function make_source(conn, name, h)
   if not handle.is_plain(h) then
      return ask(conn, name, handle.source, h)
   end
   local source, why = handle.source(h)
   return source or fault(conn, name, why)
end

-- Steps -------------------------------------------------------------------

--- Makes the functions that the core calls for a server's connections.
-- @tparam table site `options` (the server's, as they are at each call), `name`,
-- `secrets` (what auth handed out when the core was told last) and `changed`
-- (tells it anew)
-- @treturn table
function backend.steps(site)
   local steps = { server_name = site.name }
   local users = {} -- sessions by user name
   local seen = {} -- name -> time of its last login, while login_delay asks for it
   local failed = setmetatable({}, { __mode = "k" }) -- connection -> its failed tries
   local mechs = setmetatable({}, { __mode = "k" }) -- connection -> how it tries to log in, while it does
   -- By connection, the answer to a client that is refused already but reads of it
   -- first; it counts also if the client never comes to the answer.
   local refused_early = setmetatable({}, { __mode = "k" })

   local function options()
      return site.options
   end

   local function hooks()
      return site.options.on or {}
   end

   function steps.connect(conn)
      return hook(conn, "connect", hooks().connect, conn)
   end

   -- Where such lines are not written, nothing is asked of the connection for them.
   local function log_login(conn, text, name, fields)
      if not core.log_wants("info") then
         return
      end
      fields.conn, fields.peer, fields.user, fields.mech = conn.id, conn.remotehost, name, mechs[conn]
      fields.tls = conn.tls and conn.tls.version or nil
      core.log("info", text, fields)
   end

   -- Each failed try of a connection waits twice as long as the one before.
   local function delay_of(conn)
      local least = options().failure_delay
      failed[conn] = (failed[conn] or 0) + 1
      return least and math.max(least, math.min(DELAY_MAX, least * 2 ^ math.min(failed[conn] - 1, 30)))
   end

   -- Tells the hook how a login ended; it may change a refusal's words.
   local function refuse(conn, name, why, code, text, counts, fields)
      local go, words, word_code = hook(conn, "logged_in", hooks().logged_in, conn, name, false, why)
      local delay = why == "password" and delay_of(conn)
      if delay then
         core.pause(delay)
      end
      fields = fields or {}
      fields.why = why
      log_login(conn, "login refused", name, fields)
      if go then
         return false, code, text, counts
      end
      return false, word_code or code, words, counts
   end

   local function refuse_fault(conn, name, f)
      return refuse(conn, name, "fault", f.code, f.text, false)
   end

   local function too_many(name)
      local most = options().max_per_user
      return most and (users[name] or 0) >= most
   end

   local function too_soon(name)
      local delay, last = options().login_delay, seen[name]
      return delay and last and core.now() - last < delay
   end

   local function forget_old(delay)
      for name, time in pairs(seen) do
         if core.now() - time >= delay then
            seen[name] = nil
         end
      end
   end

   local function count_in(name, st)
      users[name] = (users[name] or 0) + 1
      st.counted = name
   end

   local function count_out(conn, st)
      local name = st.counted
      if not name then
         return
      end
      st.counted = false
      users[name] = users[name] > 1 and users[name] - 1 or nil
      local delay = options().login_delay
      if delay and conn.state ~= "auth" then
         forget_old(delay)
         seen[name] = core.now()
      end
   end

   local function leave(conn, st)
      count_out(conn, st) -- first: it cannot fail
      unlock(conn, st)
   end

   -- The secret was right: take the lock and open the maildrop.  Whatever goes
   -- wrong from here on, the core calls `close`, in a task of its own.
   local function enter(conn, st, name)
      count_in(name, st) -- before anything waits: logins at the same time count each other
      local got, holder = lock(conn, st)
      if not got then
         return refuse(conn, name, "in-use", "IN-USE", "another session has this maildrop; try again later", false,
            holders.fields(st, holder))
      elseif got ~= true then
         return refuse_fault(conn, name, got)
      end
      local found = contents.open(conn, st)
      if is_fault(found) then
         return refuse_fault(conn, name, found)
      end
      local go, text, code = hook(conn, "logged_in", hooks().logged_in, conn, name, true)
      if not go then
         return false, code, text, false
      end
      found.name = name
      log_login(conn, "logged in", name, { messages = found.count })
      return true, found
   end

   -- What is offered depends on what auth says it hands out; popd.passwd says
   -- something else when its file does.
   local function notice_secrets()
      local auth = options().auth
      if type(auth) == "table" and auth.secrets ~= site.secrets then
         site.changed()
      end
   end

   -- The secret was right; what else there is in the way.
   local function admit(conn, name, mbox)
      if too_many(name) then
         return refuse(conn, name, "fault", "SYS/TEMP", "this user has too many sessions open", false)
      end
      if too_soon(name) then
         return refuse(conn, name, "hook", "LOGIN-DELAY", "this maildrop was open a moment ago; try again later", false)
      end
      local st = { storage = forms.storage(options().storage), mbox = mbox, locked = false, counted = false }
      core.conn_private(conn, st)
      return enter(conn, st, name)
   end

   local function refuse_outcome(conn, outcome)
      return refuse(conn, outcome.name, outcome.why, outcome.code, outcome.text, outcome.why == "password")
   end

   local function log_in(conn, kind, name, secret, stamp, first)
      local outcome = login.step(conn, options(), kind, name, secret, stamp, first)
      notice_secrets()
      if outcome.challenge then
         refused_early[conn] = outcome.why and table.pack(refuse_outcome(conn, outcome))
         return "challenge", outcome.challenge
      elseif outcome.why then
         local early = not first and refused_early[conn]
         refused_early[conn] = nil
         if early then
            return table.unpack(early, 1, early.n)
         end
         return refuse_outcome(conn, outcome)
      end
      return admit(conn, outcome.name, outcome.mbox)
   end

   local function logged(conn, ...)
      mechs[conn] = nil
      return ...
   end

   -- "challenge", octets; true, what was found; or false, code, text, whether it
   -- was a failed try.  `first`: AUTH's command itself, not what answers a challenge.
   function steps.login(conn, kind, name, secret, stamp, first)
      mechs[conn] = kind
      return logged(conn, log_in(conn, kind, name, secret, stamp, first))
   end

   function steps.octets(conn, ids)
      return contents.collect(conn, contents.octets, ids)
   end

   function steps.uids(conn, ids)
      return contents.collect(conn, contents.uid, ids)
   end

   function steps.capa(conn, text)
      local lines = {}
      for line in text:gmatch("[^\n]+") do
         lines[#lines + 1] = line
      end
      local kept = { table.unpack(lines) }
      local answer = ask_aside(conn, "on.capa", hooks().capa, conn, lines)
      if is_fault(answer) then
         return kept
      end
      for i, line in ipairs(lines) do
         if type(line) ~= "string" then
            fault(conn, "on.capa", ("line %d is a %s"):format(i, type(line)))
            return kept
         end
      end
      return lines
   end

   -- Notes where the core finds the messages by itself, as long as the storage's `get` is what it is now.  This is
   -- no task: of a storage's table that is no plain one a script could run here.
   function steps.place(st)
      local storage = st.storage
      if getmetatable(storage) == nil then
         local of = lists.of(storage.get)
         st[STORAGE], st[GET] = storage, storage.get
         st[LIST], st[DIR] = nil, nil
         if of then
            st[LIST], st[DIR] = of(st.mbox)
         end
      end
   end

   function steps.message(conn, id, lines)
      local st = core.conn_private(conn)
      local storage, name = st.storage, "storage.get"
      local h
      if lines and storage.top then
         name = "storage.top"
         h = ask(conn, name, storage.top, st.mbox, id, lines, conn)
      else
         h = ask(conn, name, storage.get, st.mbox, id, conn)
      end
      if is_fault(h) then
         return false, h.text, h.code
      end
      if not h then
         return false, GONE
      end
      local source = make_source(conn, name, h)
      if is_fault(source) then
         return false, source.text, source.code
      end
      return source
   end

   -- The ids that a storage says are still there, for the log.
   local function not_removed(left)
      local shown = {}
      for i, id in ipairs(type(left) == "table" and left or {}) do
         shown[i] = ask_module.show(id)
      end
      return shown[1] and "; not removed: " .. table.concat(shown, " ") or ""
   end

   local NOT_REMOVED = "some deleted messages not removed"

   function steps.update(conn, ids)
      local st = core.conn_private(conn)
      if not steps.renew(conn) then
         return false, NOT_REMOVED
      end
      local done, err, left = ask(conn, "storage.dele", function(...)
         local ok, why, still = st.storage.dele(...)
         if ok == true then
            return true
         end
         return ok or "failed", why == nil and "dele did not return true" or why, still
      end, st.mbox, ids, conn)
      if done == true then
         return true
      end
      if not is_fault(done) then
         log_fault(conn, "storage.dele", ask_module.show(err) .. not_removed(left))
      end
      return false, NOT_REMOVED
   end

   function steps.renew(conn)
      local st = core.conn_private(conn)
      if not st.locked or not st.storage.renew then
         return true
      end
      local kept = ask(conn, "storage.renew", st.storage.renew, st.mbox, conn)
      if kept == true then
         return true
      end
      if not is_fault(kept) then
         log_fault(conn, "storage.renew", "the lock is lost: renew did not return true")
      end
      return false
   end

   function steps.close(conn)
      local st = core.conn_private(conn)
      if st then
         leave(conn, st)
      end
   end

   local function run_command(conn, keyword, command, args)
      local name = "commands." .. keyword
      local run = type(command) == "table" and command.run or command
      local bad, text, second, code = ask(conn, name, function(...)
         return true, run(...) -- nil and a text are the site's own words for its client
      end, conn, args)
      if bad == true and type(text) == "string" then
         return true, text, second
      elseif bad == true and not text and type(second) == "string" then
         return false, second, code
      elseif bad == true then
         bad = wrong(conn, name, "a text, or nil and a text", text)
      end
      return false, bad.text, bad.code
   end

   -- ok, text, then a source for a multi-line reply or a code; nil: unknown.
   function steps.command(conn, keyword, args, in_transaction)
      keyword = keyword:upper()
      local command = (options().commands or {})[keyword]
      if not command then
         return nil
      end
      local states = type(command) == "table" and command.states or "trans"
      if states ~= "both" and (states == "trans") ~= in_transaction then
         return false, in_transaction and "this command is for before the login" or "log in first"
      end
      local ok, text, extra = run_command(conn, keyword, command, args)
      if not ok or extra == nil then
         return ok, text, extra
      end
      local source = ask(conn, "commands." .. keyword, handle.source, extra)
      if is_fault(source) then
         return false, source.text, source.code
      end
      return true, text, source
   end

   function steps.retrieved(conn, id)
      tell(conn, "retrieved", hooks().retrieved, conn, id)
   end

   function steps.quit(conn)
      tell(conn, "quit", hooks().quit, conn)
   end

   function steps.disconnect(conn, reason)
      tell(conn, "disconnect", hooks().disconnect, conn, reason)
   end

   function steps.empty()
      site.emptied()
   end

   return steps
end

return backend
