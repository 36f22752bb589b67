--- Asks a site's functions, in order, and checks what they answer.
--
-- The C core calls the functions of `backend.steps`, one at a time for each
-- connection; each may wait.  What they return to C is plain values of known
-- type: nothing that a script returns reaches C unchecked.
--
-- Answers and faults: a lone nil or false is an answer (refused, taken, gone);
-- nil with a message, an error or a value of the wrong type is a fault, which
-- the log gets in full and the client as a neutral text.
-- @module popd.backend
local core = require("popd.core")
local handle = require("popd.handle")

local backend = {}

local NEUTRAL = "the server had a problem with this; try again later"
local GONE = "this message is not there any more"
local REFUSED = "wrong user name or password"

-- Faults ------------------------------------------------------------------

local function traceback(err)
   if type(err) == "table" and (err.code or err.text) then
      return err -- what the client is to read
   end
   return debug.traceback(tostring(err), 2)
end

local function log_fault(conn, name, err)
   local text = type(err) == "table" and (tostring(err.code) .. " " .. tostring(err.text)) or tostring(err)
   core.log("error", "a callback failed", {
      callback = name, conn = conn.id, peer = conn.remotehost, user = conn.name, error = text,
   })
end

-- The code and text that the client reads of a fault.
local function told(err)
   if type(err) == "table" then
      return type(err.code) == "string" and err.code or "SYS/TEMP", type(err.text) == "string" and err.text or NEUTRAL
   end
   return "SYS/TEMP", NEUTRAL
end

-- A fault on its way through these functions.
local Fault = {}

local function fault(conn, name, err)
   log_fault(conn, name, err)
   local code, text = told(err)
   return setmetatable({ code = code, text = text }, Fault)
end

local function is_fault(value)
   return getmetatable(value) == Fault
end

local function answered(conn, name, ok, first, second, ...)
   if ok and (first or second == nil) then
      return first, second, ...
   end
   return fault(conn, name, ok and second or first), ...
end

--- Calls a site's function.  Returns its answer, or a Fault, which is logged.
local function ask(conn, name, f, ...)
   return answered(conn, name, xpcall(f, traceback, ...))
end

local function wrong(conn, name, expected, got)
   return fault(conn, name, ("%s returned a %s, %s expected"):format(name, type(got), expected))
end

-- Forms of auth and storage -----------------------------------------------

local tcl_auth = { "exists", "lookup" }
local tcl_storage = { "dele", "lock", "unlock", "size", "stat", "get" }

-- A single function is asked Tcl's operations only.
local function as_table(value, operations)
   if type(value) ~= "function" then
      return value
   end
   local made = {}
   for _, operation in ipairs(operations) do
      made[operation] = function(...)
         return value(operation, ...)
      end
   end
   return made
end

local nothing = { -- without storage every maildrop is empty
   stat = function()
      return 0
   end,
   get = function() end,
}

--- Auth as a table of functions, however it was given.
function backend.auth(value)
   return as_table(value, tcl_auth)
end

--- Storage as a table of functions, however it was given.
function backend.storage(value)
   return as_table(value, tcl_storage) or nothing
end

-- Passwords ---------------------------------------------------------------

-- The plain password that a stored one stands for, or nil and what is wrong.
local function plain(stored)
   local scheme, rest = stored:match("^{([^}]*)}(.*)$")
   if scheme and scheme:upper() == "PLAIN" then
      return rest
   end
   if stored:find("^[{$]") then
      return nil, ("lookup returned a password of the form %s; this version verifies plain ones and {PLAIN} only, "
         .. "others need auth.verify"):format(scheme and "{" .. scheme .. "}" or "$…$")
   end
   return stored
end

local function matches(kind, stored, secret, stamp)
   if kind == "apop" then
      return core.apop(stamp, stored, secret)
   end
   return core.equal(stored, secret)
end

-- A comparison that fails, so that an unknown user costs what a known one does.
local function compare_nothing(kind, secret, stamp)
   matches(kind, "\0no such user\0", secret, stamp)
end

local function check_lookup(conn, kind, secret, stamp, stored, mbox)
   if is_fault(stored) then
      return stored
   end
   if not stored then
      compare_nothing(kind, secret, stamp)
      return nil
   end
   if type(stored) ~= "string" then
      return wrong(conn, "auth.lookup", "the password as a string", stored)
   end
   local password, why = plain(stored)
   if not password then
      return fault(conn, "auth.lookup", why)
   end
   if not matches(kind, password, secret, stamp) then
      return nil
   end
   if mbox == nil then
      return fault(conn, "auth.lookup", "lookup returned a password but no mbox")
   end
   return mbox
end

-- The mbox of who may enter, nil for who may not, or a Fault.
local function authenticate(conn, auth, kind, name, secret, stamp)
   if not auth then
      return nil
   end
   if kind == "user" and auth.verify then
      local mbox = ask(conn, "auth.verify", auth.verify, name, secret, conn)
      return mbox or nil
   end
   if not auth.lookup then
      return nil
   end
   if auth.exists then
      local exists = ask(conn, "auth.exists", auth.exists, name, conn)
      if is_fault(exists) then
         return exists
      end
      if not exists then
         compare_nothing(kind, secret, stamp)
         return nil
      end
   end
   return check_lookup(conn, kind, secret, stamp, ask(conn, "auth.lookup", auth.lookup, name, conn))
end

-- Sizes and unique-ids ----------------------------------------------------

local function is_count(value)
   return math.type(value) == "integer" and value >= 0
end

local function octets_of(n)
   return is_count(n) and n or type(n) == "number" and n >= 0 and math.tointeger(n) or nil
end

-- A lone nil: the message is gone, and its size does not matter any more.
local function size_of(conn, st, id)
   local storage = st.storage
   if storage.size then
      local n = ask(conn, "storage.size", storage.size, st.mbox, id, conn)
      if is_fault(n) then
         return n
      end
      return n and (octets_of(n) or wrong(conn, "storage.size", "a number of octets", n)) or 0
   end
   local h = ask(conn, "storage.get", storage.get, st.mbox, id, conn)
   if is_fault(h) or not h then
      return h or 0
   end
   local n, err = handle.octets(h)
   return n or fault(conn, "storage.get", err)
end

local function is_unique_id(value)
   return type(value) == "string" and #value <= 70 and value:find("^[\x21-\x7e]+$") ~= nil
end

-- A message that is gone gets one that no message ever had: it was announced,
-- so it is listed, and fetching it fails.
local function gone_uid(conn, id)
   return ("gone-%d-%d-%d"):format(os.time(), conn.id, id)
end

local function uid_of(conn, st, id)
   local storage = st.storage
   if storage.uidl then
      local uid = ask(conn, "storage.uidl", storage.uidl, st.mbox, id, conn)
      if is_fault(uid) or is_unique_id(uid) then
         return uid
      end
      return uid and wrong(conn, "storage.uidl", "1 to 70 octets from 0x21 to 0x7E", uid) or gone_uid(conn, id)
   end
   local h = ask(conn, "storage.get", storage.get, st.mbox, id, conn)
   if is_fault(h) then
      return h
   end
   if not h then
      return gone_uid(conn, id)
   end
   local uid, err = handle.digest(h)
   return uid or fault(conn, "storage.get", err)
end

-- What one of them says of many messages, in the same order.
local function collect(conn, of, ids)
   local st, values = core.conn_private(conn), {}
   for i, id in ipairs(ids) do
      local value = of(conn, st, id)
      if is_fault(value) then
         return false, value.text, value.code
      end
      values[i] = value
   end
   return true, values
end

-- Opening a maildrop ------------------------------------------------------

local function check_list(conn, list, count, good, what)
   if list == nil then
      return nil
   end
   if type(list) ~= "table" then
      return wrong(conn, "storage.scan", "an array of " .. what, list)
   end
   for i = 1, count do
      local value = list[i]
      if value ~= false and not good(value) then
         return fault(conn, "storage.scan", ("entry %d of the %s is %s"):format(i, what, tostring(value)))
      end
   end
   return list
end

local function by_scan(conn, st)
   local sizes, uids = ask(conn, "storage.scan", st.storage.scan, st.mbox, conn)
   if is_fault(sizes) then
      return sizes
   end
   if type(sizes) ~= "table" then
      return wrong(conn, "storage.scan", "an array of sizes", sizes)
   end
   local count = #sizes
   sizes = check_list(conn, sizes, count, is_count, "sizes")
   uids = check_list(conn, uids, count, is_unique_id, "unique-ids")
   if is_fault(sizes) or is_fault(uids) then
      return is_fault(sizes) and sizes or uids
   end
   return { count = count, sizes = sizes, uids = uids }
end

local function by_stat(conn, st)
   local storage = st.storage
   local count = ask(conn, "storage.stat", storage.stat, st.mbox, conn)
   if is_fault(count) then
      return count
   end
   if not is_count(count) or count > 100000000 then
      return wrong(conn, "storage.stat", "the number of messages", count)
   end
   if not storage.size then
      return { count = count }
   end
   local total = ask(conn, "storage.size", storage.size, st.mbox, nil, conn)
   if is_fault(total) then
      return total
   end
   total = octets_of(total)
   return total and { count = count, total = total } or wrong(conn, "storage.size", "a number of octets", total)
end

local function open(conn, st)
   local found = (st.storage.scan and by_scan or by_stat)(conn, st)
   if not is_fault(found) then
      found.no_dele = not st.storage.dele
      found.renews = st.storage.renew ~= nil
   end
   return found
end

-- Locks -------------------------------------------------------------------

-- true, false (taken) or a Fault; st.locked tells that unlock is owed.
local function lock(conn, st)
   if not st.storage.lock then
      return true
   end
   local got = ask(conn, "storage.lock", st.storage.lock, st.mbox, conn)
   if got == true then
      st.locked = true
   elseif got and not is_fault(got) then
      return wrong(conn, "storage.lock", "a boolean", got)
   end
   return got or false
end

local function unlock(conn, st)
   if not st.locked then
      return
   end
   st.locked = false
   if st.storage.unlock then
      ask(conn, "storage.unlock", st.storage.unlock, st.mbox, conn)
   end
end

-- Hooks -------------------------------------------------------------------

-- A hook that may refuse.  true: go on; else false, text, code.
local function hook(conn, name, f, ...)
   if not f then
      return true
   end
   local answer, text, code = ask(conn, "on." .. name, function(...)
      -- false with a text is an answer of a hook, not a fault
      local verdict, words, word_code = f(...)
      return verdict == false and "refused" or verdict, words, word_code
   end, ...)
   if is_fault(answer) then
      return false, answer.text, answer.code
   end
   if answer == "refused" then
      return false, tostring(text or "refused"), code
   end
   if type(answer) == "number" then
      core.pause(math.max(answer, 0))
   elseif answer ~= nil and answer ~= true then
      local bad = wrong(conn, "on." .. name, "nothing, a number, or false and a text", answer)
      return false, bad.text, bad.code
   end
   return true
end

local function tell(conn, name, f, ...)
   if f then
      ask(conn, "on." .. name, f, ...)
   end
end

-- Steps -------------------------------------------------------------------

--- Makes the functions that the core calls for a server's connections.
-- @tparam table site `options` (the server's, as they are at each call) and
-- `name`; counters of users are kept in it
-- @treturn table
function backend.steps(site)
   local steps = { server_name = site.name }
   local users = {} -- sessions by user name
   local seen = {} -- name -> time of its last login, while login_delay asks for it

   local function options()
      return site.options
   end

   local function hooks()
      return site.options.on or {}
   end

   function steps.connect(conn)
      return hook(conn, "connect", hooks().connect, conn)
   end

   -- Tells the hook how a login ended; it may change a refusal's words.
   local function refuse(conn, name, why, code, text, counts)
      local go, words, word_code = hook(conn, "logged_in", hooks().logged_in, conn, name, false, why)
      if why == "password" and options().failure_delay then
         core.pause(options().failure_delay)
      end
      core.log("info", "login refused", { conn = conn.id, peer = conn.remotehost, user = name, why = why })
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

   local function count_out(st)
      local name = st.counted
      if not name then
         return
      end
      st.counted = nil
      users[name] = users[name] > 1 and users[name] - 1 or nil
      local delay = options().login_delay
      if delay and st.entered then
         forget_old(delay)
         seen[name] = core.now()
      end
   end

   local function leave(conn, st)
      unlock(conn, st)
      count_out(st)
   end

   -- The secret was right: take the lock and open the maildrop.
   local function enter(conn, st, name)
      count_in(name, st) -- before anything waits: logins at the same time count each other
      local got = lock(conn, st)
      if got ~= true then
         leave(conn, st)
      end
      if is_fault(got) then
         return refuse_fault(conn, name, got)
      end
      if not got then
         return refuse(conn, name, "in-use", "IN-USE", "another session has this maildrop; try again later", false)
      end
      local found = open(conn, st)
      if is_fault(found) then
         leave(conn, st)
         return refuse_fault(conn, name, found)
      end
      local go, text, code = hook(conn, "logged_in", hooks().logged_in, conn, name, true)
      if not go then
         leave(conn, st)
         return false, code, text, false
      end
      st.entered = true
      core.log("info", "logged in", { conn = conn.id, peer = conn.remotehost, user = name, messages = found.count })
      return true, found
   end

   function steps.login(conn, kind, name, secret, stamp)
      local go, text, code = hook(conn, "login", hooks().login, conn, name, kind)
      if not go then
         return refuse(conn, name, "hook", code, text, false)
      end
      local mbox = authenticate(conn, backend.auth(options().auth), kind, name, secret, stamp)
      if is_fault(mbox) then
         return refuse_fault(conn, name, mbox)
      end
      if mbox == nil then
         return refuse(conn, name, "password", "AUTH", REFUSED, true)
      end
      if too_many(name) then
         return refuse(conn, name, "fault", "SYS/TEMP", "this user has too many sessions open", false)
      end
      if too_soon(name) then
         return refuse(conn, name, "hook", "LOGIN-DELAY", "this maildrop was open a moment ago; try again later", false)
      end
      local st = { storage = backend.storage(options().storage), mbox = mbox }
      core.conn_private(conn, st)
      return enter(conn, st, name)
   end

   function steps.octets(conn, ids)
      return collect(conn, size_of, ids)
   end

   function steps.uids(conn, ids)
      return collect(conn, uid_of, ids)
   end

   function steps.capa(conn, text)
      local lines = {}
      for line in text:gmatch("[^\n]+") do
         lines[#lines + 1] = line
      end
      local kept = { table.unpack(lines) }
      local answer = ask(conn, "on.capa", hooks().capa, conn, lines)
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
      local source, err = handle.source(h)
      if source then
         return source
      end
      local bad = fault(conn, name, err)
      return false, bad.text, bad.code
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
         log_fault(conn, "storage.dele", tostring(err)
            .. (type(left) == "table" and "; not removed: " .. table.concat(left, " ") or ""))
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
      local ok, text, second, code = xpcall(type(command) == "table" and command.run or command, traceback, conn, args)
      if ok and type(text) == "string" then
         return true, text, second
      elseif ok and not text and type(second) == "string" then
         return false, second, code -- the site's own words for its client
      end
      local bad = ok and wrong(conn, name, "a text, or nil and a text", text) or fault(conn, name, text)
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
      local source, err = handle.source(extra)
      if source then
         return true, text, source
      end
      local bad = fault(conn, "commands." .. keyword, err)
      return false, bad.text, bad.code
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
