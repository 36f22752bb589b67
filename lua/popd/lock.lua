--- Locks on files that other programs know: what back ends lock with.
--
-- `flock` and `fcntl` lock the file itself; they end with their holder.  An
-- `fcntl` lock is held by the open file, not by the process (so it does not
-- vanish when something else opens and closes the file, and keeps out other
-- sessions of this process), but excludes the usual ones of other programs.
-- A `dotlock` is a file beside it, `<path>.lock`, made so that it is safe over
-- NFS.  One that was left behind is taken over once its process is dead (where
-- it is one of popd's on this machine), or nobody has touched it for so long.
--
-- Taken in the order in which they are listed; if one cannot be had, those
-- before it are given back, so that nobody waits in a circle.
-- @module popd.lock
-- @usage
-- local locks = lock.new { "fcntl", "dotlock", wait = 10 }
-- local held, holder = locks:take("/var/mail/joe")
-- if held then held:release() end
local core = require("popd.core")
local fs = require("popd.fs")

local lock = {}

local STALE = 300 -- seconds; as long as liblockfile and others wait
local TOUCH = 60 -- seconds after which a dot-lock is touched
local END_MAX = 10 -- seconds that a session which is told to end may take
local PAUSE_LEAST, PAUSE_MOST = 0.01, 0.25
local REPLACED = "%s: the file is replaced again and again"

local POLICIES = { wait = true, stale = true, take_over = true }

-- What this process holds, by path and by what the file is.
local held_here = setmetatable({}, { __mode = "v" })

local made = 0

-- Kinds ---------------------------------------------------------------------

local function temp_name(name)
   made = made + 1
   local dir, base = name:match("^(.-)([^/]*)$")
   local process, where = core.spool_self()
   return ("%s.%s.%d.%s.%d"):format(dir, base, process, fs.sha256(where):sub(1, 12), made)
end

-- What a lock file says of its holder.  Others write a number, or nothing; ours
-- also says in which machine that number counts.
local function look(name, now)
   local st = fs.stat(name)
   if not st then
      return nil
   end
   local text = fs.read(name, 400) or ""
   local process, where = text:match("^%s*(%d+)%s*(%S*)")
   process = math.tointeger(tonumber(process))
   local seconds = math.floor(st.mtime)
   return {
      kind = "dotlock",
      path = name,
      process = process ~= 0 and process or nil,
      age = math.max(0, (now or math.floor(core.date())) - seconds),
      where = where,
      st = st,
      seconds = seconds,
   }
end

-- The kernel tells no process of an open file's lock; whoever has that has, as a
-- rule, the dot-lock too.
local function describe(self, path, kind, process)
   local beside = not process and self.dotlock and look(path .. ".lock") or {}
   return { kind = kind, process = process or beside.process, age = beside.age, path = path }
end

local function by_file(method)
   return function(self, file, path)
      -- A file that is not there has nothing to protect.
      if not file:stat() then
         return true
      end
      local got, who, code = file[method](file)
      if got == false then
         return false, describe(self, path, method, who)
      end
      return got, who, code
   end
end

local function is_dead(holder)
   local _, here = core.spool_self()
   return holder.where == here and holder.process and core.process_gone(holder.process)
end

local function dotlock(self, file, path)
   local name = path .. ".lock"
   local process, where = core.spool_self()
   for _ = 1, 10 do
      local got, now, code = file:dotlock(name, temp_name(name), ("%d %s\n"):format(process, where))
      if got ~= false then
         return got, now, code
      end
      local holder = look(name, now)
      if holder then
         if not is_dead(holder) and holder.age < self.stale then
            return false, holder
         end
         local st = holder.st
         if not core.dotlock_break(name, st.dev, st.ino, holder.seconds) then
            return false, holder
         end
         core.log("warning", "a lock file that was left behind is removed", {
            path = name, process = holder.process, age = holder.age,
         })
      end
   end
   return false, { kind = "dotlock" }
end

local KINDS = { flock = by_file("flock"), fcntl = by_file("fcntl"), dotlock = dotlock }

-- Held locks ----------------------------------------------------------------

local Held = {}
Held.__index = Held

local function forget(held)
   for _, key in ipairs(held.keys) do
      if held_here[key] == held then
         held_here[key] = nil
      end
   end
end

--- Gives it back; a second time does nothing.  A thread that is at the file keeps
-- it locked until it is through.
-- @function Held:release
function Held:release()
   forget(self)
   self.file:close()
end

Held.__close = Held.release

--- Looks whether octets went to or from a holder since the last look.
-- @tparam table held from `watch`
function lock.notice(held)
   local conn = held.conn
   local octets = conn and (conn.bytes_in or 0) + (conn.bytes_out or 0)
   if octets ~= held.octets then
      held.octets, held.moved = octets, core.now()
   end
end

-- Nobody has put another file in the locked one's place.  One that was absent
-- may come: the session does not see it.
local function is_there(held)
   return not held.file:stat() or held.file:is(held.path)
end

--- Whether it is held still, for a storage's `renew`.  Other programs see by a
-- dot-lock's time that it is in use.
-- @function Held:renew
-- @treturn boolean
function Held:renew()
   lock.notice(self)
   if not is_there(self) then
      return false
   end
   if core.now() - self.touched < TOUCH then
      return true
   end
   self.touched = core.now()
   return self.file:keep()
end

--- Whether it is held still, at once.
-- @function Held:check
-- @treturn boolean
function Held:check()
   return is_there(self) and self.file:keep()
end

--- What is to be known of a holder of this process: when it came, and whether it is idle.
-- @tparam table held what has the lock, with `path` and, where there is one, `conn`
-- @treturn table the same
function lock.watch(held)
   held.since, held.touched, held.moved = core.now(), core.now(), core.now()
   lock.notice(held)
   return held
end

-- How long nothing was asked, and nothing moved.
local function idle_of(held)
   lock.notice(held)
   local idle = held.conn and held.conn.idle
   return idle and math.min(idle, core.now() - held.moved) or 0
end

-- Taking --------------------------------------------------------------------

local Locks = {}
Locks.__index = Locks

local function keys_of(path, file)
   local _, _, dev, ino = file:stat()
   return dev and { path, ("%d:%d"):format(dev, ino) } or { path }
end

--- What is told of a holder of this process.
-- @tparam table held from `watch`
-- @treturn table
function lock.holder(held)
   return {
      kind = "session", session = held, process = (core.spool_self()), age = core.now() - held.since,
      conn = held.conn and held.conn.id, idle = held.conn and held.conn.idle, path = held.path,
   }
end

-- Opens a file that may be absent.
local function open(path)
   local file, err, code = core.spool(path)
   if not file and code == "ENOENT" then
      return core.spool(nil)
   end
   return file, err, code
end

-- One try.  A lock; false and the holder; nil and the reason.
local function try(self, path, conn)
   local file, err, code = open(path)
   if not file then
      return nil, err, code
   end
   local keys = keys_of(path, file)
   for _, key in ipairs(keys) do
      if held_here[key] then
         file:close()
         return false, lock.holder(held_here[key])
      end
   end
   for _, kind in ipairs(self) do
      local got, who, why = KINDS[kind](self, file, path)
      if not got then
         file:close()
         return got, who, why
      end
   end
   if not file:is(path) then
      file:close()
      return nil, REPLACED:format(path), "EAGAIN"
   end
   local held = lock.watch(setmetatable({ file = file, path = path, keys = keys, conn = conn }, Held))
   for _, key in ipairs(keys) do
      held_here[key] = held
   end
   return held
end

-- A file that somebody put in another's place while we locked is opened anew.
local function attempt(self, path, conn)
   local held, why, code
   for _ = 1, 10 do
      held, why, code = try(self, path, conn)
      if held ~= nil or code ~= "EAGAIN" then
         break
      end
   end
   return held, why, code
end

-- Tells a session of this process that has been idle for long to end.  Its own
-- end gives its lock back, before anybody else has it.
local function ask_to_end(take_over, holder)
   local held = holder.session
   if not take_over or not held or not held.conn or held.told or idle_of(held) < take_over then
      return false
   end
   held.told = true
   core.log("info", "an idle session ends, since its user comes again", {
      conn = holder.conn, path = held.path, idle = ("%.0f"):format(holder.idle),
   })
   held.conn:close("another session of this maildrop takes over")
   return true
end

--- Tries until the policies have had enough.
-- @tparam table policies `wait` and `take_over`, as `new` takes them
-- @func f one try: returns a lock; false and the holder; or nil, the reason and its code
-- @param ... what f is called with
-- @return as f
function lock.insist(policies, f, ...)
   local stop, pause = core.now() + (policies.wait or 0), PAUSE_LEAST
   while true do
      local held, holder, code = f(...)
      if held ~= false then
         return held, holder, code
      end
      if holder and ask_to_end(policies.take_over, holder) then
         stop = math.max(stop, core.now() + END_MAX)
      end
      local left = stop - core.now()
      if left <= 0 then
         return false, holder
      end
      core.sleep(math.min(pause, left))
      pause = math.min(pause * 2, PAUSE_MOST)
   end
end

--- What is wrong with the policies among options, or nil.
-- @tparam table options
-- @treturn ?string
function lock.fault(options)
   for name in pairs(POLICIES) do
      local value = options[name]
      if value ~= nil and not (name == "take_over" and value == false)
         and not (type(value) == "number" and value >= 0 and value <= 1e9) then
         return ("option '%s' takes seconds from 0 to 1e9"):format(name)
      end
   end
end

--- Locks a file, which may be absent (then only a dot-lock and this process's own
-- sessions exclude each other).  May wait, as the policies say.
-- @function Locks:take
-- @string path
-- @param[opt] conn the connection that it is for
-- @return the lock: `file` (of popd's own kind), `release()`, `renew()`, `check()`; or false
-- and the holder, which a storage's `lock` may return as it is, for the log: `kind`, `path`, and where it
-- can be told `process`, `age` (seconds), `conn`, `idle`; or
-- nil, the reason and its code
function Locks:take(path, conn)
   return lock.insist(self, attempt, self, path, conn)
end

local function check(options)
   if type(options) ~= "table" then
      error('popd.lock: a list of "flock", "fcntl" and "dotlock" expected', 3)
   end
   for name, value in pairs(options) do
      if math.type(name) == "integer" then
         if not KINDS[value] then
            error(("popd.lock: unknown kind '%s'; there are: dotlock, fcntl, flock"):format(tostring(value)), 3)
         end
      elseif not POLICIES[name] then
         error(("popd.lock: unknown option '%s'; there are: stale, take_over, wait"):format(tostring(name)), 3)
      end
   end
   local wrong = lock.fault(options)
   if wrong then
      error("popd.lock: " .. wrong, 3)
   end
   if not options[1] then
      error('popd.lock: at least one of "flock", "fcntl" and "dotlock" expected', 3)
   end
end

--- Makes what takes locks.
-- @tparam table options the kinds in their order; `wait`: seconds to wait for a lock (0: it is
-- refused at once); `stale`: seconds after which a dot-lock that nobody touches is removed
-- (300); `take_over`: after so many seconds in which a session of this process was
-- idle, it is ended for the next one of its maildrop (false: never)
-- @return with `take(path, conn)`
-- @usage lock.new { "dotlock", "fcntl", wait = 5, take_over = 120 }
function lock.new(options)
   check(options)
   local locks = setmetatable({ table.unpack(options) }, Locks)
   locks.wait, locks.stale, locks.take_over = options.wait or 0, options.stale or STALE, options.take_over
   for _, kind in ipairs(locks) do
      locks.dotlock = locks.dotlock or kind == "dotlock"
   end
   return locks
end

return lock
