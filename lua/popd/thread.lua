--- Lua modules in threads of their own, for drivers that block.
--
-- Which thread does which call, and what becomes of threads that hang, is
-- decided here; `popd.core` has the threads. What it tells (`asked`, `done` and
-- so on) comes outside of callbacks, so that no deadline or budget of a
-- callback can cut these functions off halfway.
-- @module popd.thread
local core = require("popd.core")

local thread = {}

local MOST = 64 -- threads of one module
local MOST_PER = 5 -- so many times the number that is to serve, with those that hang

local function remove(list, one)
   for i, other in ipairs(list) do
      if other == one then
         return table.remove(list, i)
      end
   end
end

-- The threads of one module.  A `hand` is one of them: its `worker`, the `job`
-- that it is at, a `queue` of jobs that only it can do, and how many mboxes are
-- `held` there.  It `hung` in a job that was given up; from then on it is
-- `retired`, does only what is bound to it, and ends when nothing is.
local Crew = {}
Crew.__index = Crew

-- Queues --------------------------------------------------------------------

-- What nobody waits for (`kept`) is not counted: it must never be refused.
function Crew:enqueue(job, list)
   job.list = list
   table.insert(list, job)
   self.waiting = self.waiting + (job.kept and 0 or 1)
end

function Crew:dequeue(job)
   remove(job.list, job)
   job.list = nil
   self.waiting = self.waiting - (job.kept and 0 or 1)
end

-- Bindings: mbox -> the thread that has its lock -----------------------------

function Crew:bind(job, hand)
   local binding = self.bound[job.mbox]
   if not binding then
      binding = { mbox = job.mbox, hand = hand, locks = 0, trying = 0 }
      self.bound[job.mbox] = binding
      hand.held = hand.held + 1
   end
   binding.trying = binding.trying + 1
   job.binding = binding
end

function Crew:unhook(binding)
   if self.bound[binding.mbox] == binding then
      self.bound[binding.mbox] = nil
   end
end

local function is_free(binding)
   return binding.locks == 0 and binding.trying == 0
end

-- A lock or unlock has ended.
function Crew:settle_binding(job, got)
   local binding = job.binding
   if not binding then
      return
   elseif job.name == "lock" then
      binding.trying = binding.trying - 1
      binding.locks = binding.locks + (got and 1 or 0)
   else
      binding.locks = math.max(0, binding.locks - 1)
   end
   if is_free(binding) and not binding.gone then
      binding.gone = true
      binding.hand.held = binding.hand.held - 1
      self:unhook(binding)
   end
end

-- Jobs ------------------------------------------------------------------------

function Crew:refuse(job, why)
   job.errand:refuse(("%s of the module '%s' in threads: %s"):format(job.name, self.module, why))
end

-- What has to wait for a thread that hangs: an unlock does so by itself, and
-- nobody waits for it; everything else is refused.
function Crew:stuck(job, hand)
   local at = hand.job and hand.job.name or "?"
   if job.name ~= "unlock" then
      return self:refuse(job, ("the thread that has this lock hangs in %s"):format(at))
   end
   job.kept = true
   self:enqueue(job, hand.queue)
   job.errand:settle()
   core.log("warning", "unlock is left to a thread that hangs", { module = self.module, hangs_in = at })
end

-- A lock that nobody has any use for is given back where it was taken.
function Crew:undo(job)
   if not self.has_unlock then
      return self:settle_binding({ name = "unlock", binding = job.binding })
   end
   local undoing = { name = "unlock", mbox = job.mbox, binding = job.binding, kept = true }
   undoing.errand = job.errand:again(undoing, "unlock")
   self:enqueue(undoing, job.hand.queue)
end

-- The thread with nothing to do that has the fewest locks.
function Crew:idle()
   local best
   for _, hand in ipairs(self.serving) do
      if not hand.job and not hand.loading and (not best or hand.held < best.held) then
         best = hand
      end
   end
   return best
end

-- The first job that any thread may do.  One whose mbox was bound while it
-- waited goes where that is.
function Crew:first_free(hand)
   while true do
      local job = self.queue[1]
      local binding = job and self.bound[job.mbox]
      if not binding then
         return job
      end
      self:dequeue(job)
      if binding.hand.hung then
         self:stuck(job, binding.hand)
      else
         self:enqueue(job, binding.hand.queue)
         if binding.hand ~= hand then
            self:feed(binding.hand)
         end
      end
   end
end

-- The next job of a thread: its own or anybody's, whichever came first.
function Crew:take(hand)
   local any = not hand.retired and self:first_free(hand) or nil
   local job = hand.queue[1]
   if not job or any and not job.kept and any.number < job.number then
      job = any
   end
   if job then
      self:dequeue(job)
   end
   return job
end

function Crew:begin(hand, job)
   hand.job, job.hand = job, hand
   if job.name == "lock" and job.mbox ~= nil and job.mbox == job.mbox then
      self:bind(job, hand)
   elseif job.name == "unlock" then
      job.binding = job.binding or self.bound[job.mbox]
   end
   hand.worker:give(job.errand)
end

-- Gives a thread its next job, if it can take one.
function Crew:feed(hand)
   if not hand or hand.job or hand.loading then
      return
   end
   local job = self:take(hand)
   if job then
      self:begin(hand, job)
   elseif hand.retired and hand.held == 0 then
      hand.worker:close()
   end
end

-- Threads ---------------------------------------------------------------------

function Crew:start()
   local hand = { queue = {}, held = 0, loading = true }
   local worker, why = core.worker(self.on, hand, self.module, self.path, self.cpath, self.arg)
   if not worker then
      return nil, "the system gives no thread: " .. why
   end
   hand.worker = worker
   table.insert(self.serving, hand)
   return true
end

function Crew:refuse_all(list, why)
   for _, job in ipairs { table.unpack(list) } do
      if not job.kept then
         self:dequeue(job)
         self:refuse(job, why)
      end
   end
end

-- Starts what is missing; where nothing is left, nothing waits.
function Crew:fill()
   while #self.serving < self.threads and not self.closed do
      local ok, why = nil, ("it hangs in %d threads, and more are not started"):format(self.hanging)
      if #self.serving + self.hanging < MOST_PER * self.threads then
         ok, why = self:start()
      end
      if not ok then
         self.trouble = why
         break
      end
   end
   if #self.serving == 0 then
      self:refuse_all(self.queue, self.trouble)
   end
end

-- Nobody waits any more for what this thread is at: another one takes its place.
function Crew:abandon(hand)
   core.log("warning", "a thread hangs and is given up", { module = self.module, hangs_in = hand.job.name })
   hand.hung = true
   if not hand.retired then
      hand.retired = true
      remove(self.serving, hand)
      self.hanging = self.hanging + 1
   end
   local binding = hand.job.name == "lock" and hand.job.binding
   if binding and binding.locks == 0 then
      self:unhook(binding) -- it has no lock yet, so that others may try elsewhere
   end
   for _, job in ipairs { table.unpack(hand.queue) } do
      if not job.kept then
         self:dequeue(job)
         self:stuck(job, hand)
      end
   end
   self:fill()
end

function Crew:shut()
   self.closed, self.opening = true, nil
   for _, hand in ipairs(self.serving) do
      hand.worker:close()
   end
   self.serving = {}
end

-- What the core tells ------------------------------------------------------------

local events = { "asked", "done", "cancelled", "loaded", "ended" }

function Crew:open(job)
   self.opening = job
   for _ = 1, self.threads do
      local ok, why = self:start()
      if not ok then
         job.errand:refuse(why)
         return self:shut()
      end
   end
end

-- Somebody waits for this call.
function Crew:asked(job, errand)
   job.errand, self.number = errand, self.number + 1
   job.number = self.number
   if not self.names then
      return self:open(job)
   end
   self:fill()
   local binding = self.bound[job.mbox]
   if binding and binding.hand.hung then
      return self:stuck(job, binding.hand)
   elseif #self.serving == 0 and not binding then
      return self:refuse(job, self.trouble)
   elseif self.waiting >= self.most and job.name ~= "unlock" then
      return self:refuse(job, ("%d calls wait already (option queue)"):format(self.waiting))
   end
   self:enqueue(job, binding and binding.hand.queue or self.queue)
   self:feed(binding and binding.hand or self:idle())
end

-- A thread has done it; `got`: its first result is true.
function Crew:done(hand, job, got)
   hand.job, hand.hung = nil, false
   job.done, job.got = true, got
   self:settle_binding(job, got)
   if job.cancelled and got and job.name == "lock" then
      self:undo(job)
   end
   self:feed(hand)
end

-- Nobody waits for it any more.  Its result may be on its way: a lock that its
-- callback never heard of is given back.
function Crew:cancelled(job)
   job.cancelled = true
   if job == self.opening then
      self:shut()
   elseif job.done then
      if job.got and job.name == "lock" then
         self:undo(job)
         self:feed(job.hand)
      end
   elseif job.hand then
      self:abandon(job.hand)
   elseif job.list and not job.kept then
      self:dequeue(job)
   end
end

function Crew:opened(why)
   if why ~= nil then
      self.opening.errand:refuse(why)
      return self:shut()
   end
   for _, hand in ipairs(self.serving) do
      if hand.loading then
         return
      end
   end
   self.opening.errand:settle()
   self.opening = nil
end

-- A thread has loaded the module, or cannot.
function Crew:loaded(hand, names, why)
   hand.loading = false
   if self.closed then
      return
   elseif self.opening then
      self.names = names
      return self:opened(why)
   elseif names then
      return self:feed(hand)
   end
   core.log("error", "a thread could not load its module", { module = self.module, error = tostring(why) })
   self.trouble = tostring(why)
   remove(self.serving, hand)
   hand.worker:close()
   if #self.serving == 0 then
      self:refuse_all(self.queue, self.trouble)
   end
end

function Crew:ended(hand)
   if hand.retired then
      self.hanging = self.hanging - 1
      self:fill()
   end
end

-- For users ---------------------------------------------------------------------

local function check_count(name, value, default, most)
   if value == nil then
      return default
   elseif math.type(value) ~= "integer" or value < 1 or value > most then
      error(("popd.thread: option '%s': an integer from 1 to %d expected, got %s"):format(name, most,
         tostring(value)), 4)
   end
   return value
end

local known = { threads = { 4, MOST }, queue = { 1000, 1000000 } }

local function check(module, options)
   if type(module) ~= "string" then
      error(("popd.thread: a module's name expected, got a %s"):format(type(module)), 3)
   elseif options ~= nil and type(options) ~= "table" then
      error(("popd.thread: a table of options expected, got a %s"):format(type(options)), 3)
   end
   local values = {}
   for name in pairs(options or {}) do
      if not known[name] then
         error(("popd.thread: unknown option '%s'; there are: queue, threads"):format(tostring(name)), 3)
      end
   end
   for name, row in pairs(known) do
      values[name] = check_count(name, options and options[name], row[1], row[2])
   end
   return values
end

-- The script's command line, as threads get it.
local function own_arg()
   local words = {}
   for i, word in pairs(type(arg) == "table" and arg or {}) do
      words[i] = type(word) == "string" and word or nil
   end
   return words
end

local function new_crew(module, options)
   local crew = setmetatable({
      module = module, path = package.path, cpath = package.cpath, arg = own_arg(),
      threads = options.threads, most = options.queue,
      serving = {}, queue = {}, bound = {}, waiting = 0, number = 0, hanging = 0, on = {},
   }, Crew)
   for _, event in ipairs(events) do
      crew.on[event] = function(...)
         crew[event](crew, ...)
      end
   end
   return crew
end

--- Loads a module in threads, each with a Lua state of its own, and waits until
-- they have.  There are the standard libraries, the caller's `package.path`,
-- `package.cpath` and `arg`, and in popd-lua what that brings.
--
-- Arguments and results are copied: nil, booleans, numbers, strings, tables of
-- these (without metatables), and `conn` as a table of its present values;
-- anything else raises and says where it is.  An error in a thread is raised in
-- the caller with the thread's traceback, a table as a table.
--
-- From a `lock(mbox, …)` that returns true to its `unlock(mbox, …)` all calls
-- whose first argument is that mbox go to the same thread; others go to
-- whichever is free first.
--
-- When `callback_timeout` ends the wait, the thread is given up and another one
-- takes its place.  What it has locked stays locked until it comes back: until
-- then calls with that mbox raise, and `unlock` is run when it does.  A lock
-- that nobody waits for any more is unlocked.
-- @string module its name, as for `require`; it must return a table
-- @tparam[opt] table options `threads`: how many (4; 64 at most); `queue`: how
-- many calls may wait for one before further ones raise (1000)
-- @treturn table the module's functions, each of which waits for its result; in a
-- script's main chunk they block
-- @raise what is wrong with the arguments, or why the module cannot be loaded,
-- with the thread's traceback
-- @usage
-- local store = popd.thread("my_store", { threads = 8 })
-- popd.new { auth = store, storage = store }
function thread.new(module, options)
   local crew = new_crew(module, check(module, options))
   local ok, why = pcall(core.errand(crew.on, "")) -- the first call opens
   if not ok then
      error(("popd.thread: the module '%s' cannot be loaded: %s"):format(module, tostring(why)), 2)
   end
   local functions = {}
   for _, name in ipairs(crew.names) do
      crew.has_unlock = crew.has_unlock or name == "unlock"
      functions[name] = core.errand(crew.on, name)
   end
   return functions
end

return thread
