local client = require("support.client")
local core = require("popd.core")
local files = require("support.files")
local popd = require("popd")
local program = require("support.program")

local MODULE = "support.threaded"

local dir

local function path(name)
   return dir .. "/" .. name
end

local fifos = {}

-- FIFOs: what opens one to read hangs until the spec lets it go.
local function fifo(name)
   files.run("mkfifo %s", path(name))
   fifos[#fifos + 1] = path(name)
   return path(name)
end

local function let_go(name, text)
   local file <close> = assert(io.open(path(name), "w"))
   file:write(text or "true", "\n")
end

local function notes()
   return files.exists(path("notes")) and files.text(path("notes")) or ""
end

local function has_threads(n)
   client.wait_for(function() return n .. " threads, there are " .. core.threads() end, function()
      return core.threads() == n
   end)
end

-- Runs f as a task: a table that gets its results.
local function run(f, ...)
   local made = {}
   made.job = popd.spawn(function(...)
      local results = table.pack(pcall(f, ...))
      made.ok, made.value, made.n = results[1], results[2], results.n - 1
      made.done = true
   end, ...)
   return made
end

local function finished(made)
   client.wait_for("the call", function() return made.done end)
   return made.value
end

-- So many that what was started is with its thread, if one is free.
local function turns()
   for _ = 1, 20 do
      popd.step(0)
   end
end

-- Runs f, which waits for a FIFO in a thread.
local function hold(f, mbox, name, ...)
   local made = run(f, mbox, name, ...)
   client.wait_for("the thread", function() return files.exists(name .. ".in") end)
   os.remove(name .. ".in")
   assert.is_nil(made.done)
   return made
end

-- The same, and gives up the wait.
local function hang(f, ...)
   local made = hold(f, ...)
   made.job:cancel()
   assert.truthy(finished(made):find("cancelled", 1, true))
   return made
end

-- What a process says that runs this text, how it ended.
local function process(text, ...)
   local script = files.put(path("script.lua"), [[
      local core, popd = require("popd.core"), require("popd")
   ]] .. text)
   local status, out, err = program.run(program.lua(), script, ...)
   return out, err, status
end

local function setup()
   dir = files.new_dir()
end

-- Whatever still hangs after a spec that failed must not hold up the others.
local function let_all_go()
   for _, name in ipairs(fifos) do
      local file <close> = assert(io.open(name, "r+")) -- never waits for a reader
      file:write("true\n")
   end
   fifos = {}
end

-- With what was made gone, so are its threads.
local function tidy()
   let_all_go()
   client.finish()
   client.wait_for("the end of all threads", function()
      collectgarbage()
      return core.threads() == 0
   end)
   files.remove(dir)
end

describe("a module in threads", function()
   before_each(setup)
   after_each(tidy)

   it("is a table with exactly its functions", function()
      local module, names, expected = popd.thread(MODULE), {}, {}
      for name, f in pairs(module) do
         assert.equal("function", type(f))
         names[name] = true
      end
      for name, f in pairs(require(MODULE)) do
         expected[name] = type(f) == "function" or nil
      end
      assert.same(expected, names)
   end)

   it("has as many threads as it is told", function()
      local four = popd.thread(MODULE)
      has_threads(4)
      local nine = popd.thread(MODULE, { threads = 5 })
      has_threads(9)
      assert.is_true(four.echo(true) and nine.echo(true))
   end)

   for what, call in pairs { ["a main chunk"] = function(f) return f() end, ["a task"] = function(f)
      return finished(run(f))
   end } do
      it("passes values there and back, from " .. what, function()
         local module = popd.thread(MODULE, { threads = 1 })
         call(function()
            local value = { 1, 2.0, "three", { four = { true } } }
            assert.same(value, module.echo(value))
            assert.same({ n = 4, 1, nil, "a\0b", nil }, table.pack(module.echo(1, nil, "a\0b", nil)))
            assert.equal(0, select("#", module.echo()))
            assert.equal(3, module.count(nil, nil, nil))
            assert.equal("integer float integer", module.types(1, 1.0, math.maxinteger))
            assert.equal(100000, #module.echo(("x"):rep(100000)))
            return true
         end)
      end)
   end

   it("says at the caller's line what cannot be passed to it", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local ok, why = pcall(function()
         local results = module.echo(1, { x = { y = print } })
         return results
      end)
      assert.is_false(ok)
      assert.truthy(why:find("thread_spec%.lua:%d+: argument 2%.x%.y: a function cannot be passed to a thread"), why)
   end)

   for what, where in pairs {
      ["function"] = "result 2: a function", userdata = "result 2: a userdata", thread = "result 2: a thread",
      nested = "result 2.list[2][1]: a function", cycle = "result 2.again: a table that contains itself",
   } do
      it("says what it cannot return: " .. what, function()
         local module = popd.thread(MODULE, { threads = 1 })
         local ok, why = pcall(module.odd, what)
         assert.is_false(ok)
         assert.truthy(why:find(where .. " cannot be passed from a thread", 1, true), why)
         assert.equal(1, module.echo(1))
      end)
   end

   it("raises what it raises, with the thread's traceback", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local made = run(module.fail, "boom")
      local why = finished(made)
      assert.is_false(made.ok)
      assert.truthy(why:find("threaded.lua:%d+: boom\nstack traceback:\n.*in function 'support.threaded.fail'"), why)
   end)

   it("raises a table as a table", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local why = finished(run(module.fail, { code = "SYS/PERM", text = "no" }))
      assert.same({ code = "SYS/PERM", text = "no" }, why)
   end)

   it("raises other values as texts", function()
      local module = popd.thread(MODULE, { threads = 1 })
      for _, case in ipairs {
         { module.fail, "nil", nil }, { module.fail, "threaded.lua", "x" }, { module.fail, "42", 42 },
         { module.raise_odd, "error value 1.f: a function cannot be passed from a thread" },
         { module.raise_shown, "shown so" },
      } do
         local ok, why = pcall(case[1], case[3])
         assert.is_false(ok)
         assert.truthy(why:find(case[2], 1, true), why)
      end
   end)

   it("works in several threads at once, beside everything else", function()
      local module = popd.thread(MODULE, { threads = 2 })
      local name, others = fifo("a"), 0
      local heard = run(module.hold, nil, name)
      local ticking = popd.spawn(function()
         while not heard.done do
            others = others + 1
            client.turn()
         end
      end)
      -- would wait for ever, one after the other
      finished(run(module.say, nil, name, "from the other thread"))
      assert.equal("from the other thread", finished(heard))
      assert.is_true(others > 0)
      ticking:cancel()
   end)

   it("gives each caller its own result, however many there are", function()
      local module, right = popd.thread(MODULE, { threads = 8, queue = 3000 }), 0
      for i = 1, 3000 do
         popd.spawn(function()
            local number, text = module.echo(i, ("x"):rep(i % 100))
            right = right + (number == i and #text == i % 100 and 1 or 0)
         end)
      end
      client.drain()
      assert.equal(3000, right)
   end)

   it("cannot be waited for where Lua cannot be paused, and says so", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local why = finished(run(function()
         return select(2, pcall(table.sort, { 1, 2, 3 }, function() return module.echo(true) end))
      end))
      assert.truthy(why:find("popd.thread cannot wait here", 1, true), why)
      assert.equal(1, module.echo(1))
   end)

   it("can be loaded and called from inside a callback and a coroutine of its own", function()
      local value = finished(run(function()
         local module = popd.thread(MODULE, { threads = 2 })
         return coroutine.wrap(function() return module.echo("here") end)()
      end))
      assert.equal("here", value)
   end)

   it("may use popd in its threads, which do not write to the script's log function", function()
      local module, lines = popd.thread(MODULE, { threads = 2 }), {}
      popd.log_to(function(_, line) lines[#lines + 1] = line end, "none")
      local octets, right = module.popd("from a thread")
      assert.same({ 3, true }, { octets, right })
      for _ = 1, 50 do
         run(module.popd, "from a thread")
      end
      while popd.step(0) do
         popd.log("debug", "from here")
      end
      popd.log_to(function(_, line) lines[#lines + 1] = line end, "error")
      popd.log("error", "from here")
      assert.equal(1, #lines)
      assert.truthy(lines[1]:find("from here", 1, true))
   end)

   it("is gone, threads and all, once nobody has it any more", function()
      local module = popd.thread(MODULE)
      module.echo(1)
      has_threads(4)
      module = nil -- luacheck: ignore
      collectgarbage()
      collectgarbage()
      has_threads(0)
   end)

   it("leaves no memory behind", function()
      local module = popd.thread(MODULE, { threads = 2 })
      local function many()
         for i = 1, 200 do
            run(i % 3 == 0 and module.fail or module.echo, ("x"):rep(1000))
            run(module.lock, nil, nil)
         end
         client.drain()
         collectgarbage()
         collectgarbage()
         return collectgarbage("count")
      end
      many()
      local before = many()
      many()
      assert.is_true(many() - before < 100)
   end)
end)

describe("a module that cannot be loaded", function()
   before_each(setup)
   after_each(tidy)

   local before = package.path

   after_each(function()
      package.path = before
   end)

   local function put(text)
      package.path = dir .. "/?.lua;" .. before
      files.put(path("odd_module.lua"), text)
   end

   local function in_task(...)
      local made = run(...)
      finished(made)
      return made.ok, made.value
   end

   for what, case in pairs {
      ["there is none"] = { nil, "module 'odd_module' not found" },
      ["it does not compile"] = { "this is no Lua", "syntax error" },
      ["it raises"] = { "error('at once')", "odd_module.lua:1: at once\nstack traceback:" },
      ["it raises a table"] = { "error({ text = 'no' })", "table: " },
      ["it is no table"] = { "return print", "the module 'odd_module' is a function; a table of functions expected" },
      ["it returns nothing"] = { "", "the module 'odd_module' is a boolean; a table of functions expected" },
   } do
      it("raises in the caller: " .. what, function()
         if case[1] then
            put(case[1])
         end
         for _, call in ipairs { pcall, in_task } do
            local ok, why = call(popd.thread, "odd_module", { threads = 3 })
            assert.is_false(ok)
            assert.truthy(why:find("popd.thread: the module 'odd_module' cannot be loaded: ", 1, true), why)
            assert.truthy(why:find(case[2], 1, true), why)
         end
      end)
   end

   it("gives up where its caller does", function()
      put(("io.open(%q, 'w'):close() io.open(%q):read('l') return {}"):format(path("in"), fifo("load")))
      local made = run(popd.thread, "odd_module", { threads = 1 })
      client.wait_for("the thread", function() return files.exists(path("in")) end)
      made.job:cancel()
      assert.truthy(finished(made):find("cancelled", 1, true), made.value)
      let_go("load")
   end)

   for what, case in pairs {
      ["a module's name expected"] = { 1 },
      ["a table of options expected"] = { MODULE, 4 },
      ["unknown option 'thread'; there are: queue, threads"] = { MODULE, { thread = 4 } },
      ["option 'threads': an integer from 1 to 64 expected, got 65"] = { MODULE, { threads = 65 } },
      ["option 'queue': an integer from 1 to 1000000 expected, got 0"] = { MODULE, { queue = 0 } },
   } do
      it("is a mistake of the caller's: " .. what, function()
         local ok, why = pcall(function()
            local module = popd.thread(case[1], case[2])
            return module
         end)
         assert.is_false(ok)
         assert.truthy(why:find("thread_spec%.lua:%d+: popd%.thread: "), why)
         assert.truthy(why:find(what, 1, true), why)
      end)
   end
end)

describe("calls with one mbox", function()
   before_each(setup)
   after_each(tidy)

   for what, mbox in pairs { ["by value"] = "joe", ["by identity"] = { user = "joe" }, ["a number"] = 12 } do
      it("go to one thread from lock to unlock: " .. what, function()
         local module = popd.thread(MODULE)
         assert.is_true(module.lock(mbox))
         local home = module.who(mbox)
         for _ = 1, 20 do
            assert.equal(home, module.who(mbox))
         end
         local held = hold(module.hold, mbox, fifo("a"))
         local other = run(module.who, mbox)
         for _ = 1, 20 do
            assert.is_true(finished(run(module.who, "ann")) ~= home) -- the others are free
         end
         assert.is_nil(other.done)
         let_go("a")
         assert.equal(home, finished(other))
         finished(held)
         module.unlock(mbox)
         held = hold(module.hold, "ann", fifo("b"))
         module.who(mbox) -- another thread has it, since nothing binds it
         finished(run(module.who, mbox))
         let_go("b")
         finished(held)
      end)
   end

   it("of tables that only look alike are different ones", function()
      local module = popd.thread(MODULE, { threads = 2 })
      local first, second = { "joe" }, { "joe" }
      assert.is_true(module.lock(first))
      local held = hold(module.hold, first, fifo("a"))
      assert.is_true(finished(run(module.lock, second)))
      module.unlock(second)
      let_go("a")
      finished(held)
      module.unlock(first)
   end)

   it("are bound by a lock that returned true only", function()
      local module = popd.thread(MODULE, { threads = 2 })
      fifo("a")
      for _, said in ipairs { "false", "not true" } do
         local made = hold(module.lock, "joe", path("a"))
         let_go("a", said)
         assert.is_false(finished(made))
         made = hold(module.hold, "joe", path("a"))
         finished(run(module.who, "joe"))
         let_go("a")
         finished(made)
      end
   end)

   it("stay bound when a second lock is refused", function()
      local module = popd.thread(MODULE, { threads = 2 })
      fifo("a")
      assert.is_true(module.lock("joe"))
      local home = module.who("joe")
      local made = hold(module.lock, "joe", path("a"))
      let_go("a", "false")
      assert.is_false(finished(made))
      for _ = 1, 10 do
         assert.equal(home, module.who("joe"))
      end
      module.unlock("joe")
   end)

   it("go where the lock is also if they came while it waited for a thread", function()
      local module = popd.thread(MODULE, { threads = 2 })
      local a, b = hold(module.hold, nil, fifo("a")), hold(module.hold, nil, fifo("b"))
      local locked, first, second = run(module.lock, "joe"), run(module.who, "joe"), run(module.who, "joe")
      turns()
      let_go("a")
      assert.is_true(finished(locked))
      assert.equal(finished(first), finished(second))
      assert.is_nil(b.done)
      let_go("b")
      finished(b)
      finished(a)
      module.unlock("joe")
   end)

   it("of many maildrops are spread over the threads", function()
      local module, homes, n = popd.thread(MODULE), {}, 0
      for i = 1, 8 do
         assert.is_true(module.lock("user" .. i))
         homes[module.who("user" .. i)] = true
      end
      for _ in pairs(homes) do
         n = n + 1
      end
      assert.equal(4, n)
      for i = 1, 8 do
         module.unlock("user" .. i)
      end
   end)
end)

describe("a thread's queue", function()
   before_each(setup)
   after_each(tidy)

   it("is bounded, and says so; an unlock always finds room", function()
      local module = popd.thread(MODULE, { threads = 1, queue = 2 })
      assert.is_true(module.lock("joe", nil, path("notes")))
      local held = hold(module.hold, "joe", fifo("a"))
      local waiting = { run(module.echo, 1), run(module.echo, 2) }
      local refused = run(module.echo, 3)
      local unlocked = run(module.unlock, "joe", nil, path("notes"))
      local why = finished(refused)
      assert.is_false(refused.ok)
      assert.truthy(why:find("echo of the module 'support.threaded' in threads: 2 calls wait already (option queue)",
         1, true), why)
      let_go("a")
      finished(held)
      assert.same({ 1, 2 }, { finished(waiting[1]), finished(waiting[2]) })
      finished(unlocked)
      assert.truthy(notes():find("lock\nunlock ", 1, true))
   end)

   it("forgets a call that is given up before a thread has it", function()
      local module = popd.thread(MODULE, { threads = 1, queue = 1 })
      local held = hold(module.hold, nil, fifo("a"))
      local waiting = run(module.say, nil, path("none"), "x")
      turns()
      waiting.job:cancel()
      finished(waiting)
      turns()
      local next_one = run(module.echo, "next")
      turns()
      let_go("a")
      finished(held)
      assert.equal("next", finished(next_one))
      assert.is_false(files.exists(path("none")))
      assert.equal(1, core.threads())
   end)

   it("lets a call in that is given up before anybody knew of it", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local made = run(module.say, nil, path("none"), "x")
      made.job:cancel()
      client.drain()
      popd.spawn(function()
         local one = popd.spawn(pcall, module.say, nil, path("none"), "x")
         client.turn()
         one:cancel()
      end)
      client.drain()
      assert.equal(1, module.echo(1))
   end)
end)

describe("a thread that hangs", function()
   before_each(setup)
   after_each(tidy)

   it("is given up when the callback's time is up, and another one takes its place", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local name, hangs = fifo("a"), true
      local server = client.server { callback_timeout = 0.05, auth = { verify = function()
         return hangs and module.hold(nil, name) or module.echo("joe")
      end } }
      local c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS x"):find("^%-ERR %[SYS/TEMP%]"))
      assert.is_true(c:closed())
      assert.equal(1, #client.logged("^error.*callback_timeout"))
      client.wait_for("the log", function()
         return client.logged("^warning.*a thread hangs and is given up.*hangs_in=hold.*module=support.threaded")[1]
      end)
      hangs = false
      c = client.connect(server)
      c:command("USER joe")
      assert.truthy(c:command("PASS x"):find("^%+OK"))
      assert.equal(2, core.threads())
      let_go("a")
      has_threads(1)
   end)

   it("is replaced by a fresh one", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local before = module.who()
      hang(module.hold, nil, fifo("a"))
      assert.is_true(finished(run(module.who)) ~= before)
      let_go("a")
      has_threads(1)
   end)

   it("gives its late result to nobody", function()
      local module = popd.thread(MODULE, { threads = 1 })
      local one = hang(module.hold, nil, fifo("a"))
      local two = hold(module.hold, nil, fifo("b"))
      let_go("a", "late")
      has_threads(1)
      assert.is_nil(two.done)
      let_go("b", "in time")
      assert.equal("in time", finished(two))
      assert.is_false(one.ok)
   end)

   it("does not hold popd.run", function()
      local module = popd.thread(MODULE, { threads = 1 })
      hang(module.hold, nil, fifo("a"))
      client.drain()
      assert.equal(2, core.threads())
      let_go("a")
   end)

   it("has others refused that need it, at once, until it comes back", function()
      local module = popd.thread(MODULE, { threads = 2 })
      assert.is_true(module.lock("joe"))
      local home = module.who("joe")
      local waiting = run(function()
         client.turn()
         return module.who("joe")
      end)
      hang(module.hold, "joe", fifo("a"))
      assert.truthy(finished(waiting):find("the thread that has this lock hangs in hold", 1, true), waiting.value)
      local refused = run(module.who, "joe")
      assert.truthy(finished(refused):find("who of the module 'support.threaded' in threads: the thread that has "
         .. "this lock hangs in hold", 1, true), refused.value)
      assert.truthy(finished(run(module.who, "ann")))
      let_go("a")
      client.wait_for("the thread", function()
         return finished(run(module.who, "joe")) == home
      end)
      assert.equal(3, core.threads()) -- it stays for its lock
      module.unlock("joe")
      has_threads(2)
   end)

   it("runs an unlock when it comes back, for which nobody waits", function()
      local module = popd.thread(MODULE, { threads = 1 })
      assert.is_true(module.lock("joe", nil, path("notes")))
      local home = module.who("joe")
      hang(module.hold, "joe", fifo("a"))
      local made = run(module.unlock, "joe", nil, path("notes"))
      finished(made)
      assert.is_true(made.ok)
      client.drain()
      assert.equal("lock\n", notes())
      let_go("a")
      has_threads(1)
      assert.equal("lock\nunlock " .. home .. "\n", notes())
      assert.is_true(finished(run(module.lock, "joe")))
      module.unlock("joe")
   end)

   it("runs an unlock that waited for it", function()
      local module = popd.thread(MODULE, { threads = 1 })
      assert.is_true(module.lock("joe", nil, path("notes")))
      local held = hold(module.hold, "joe", fifo("a"))
      local unlocked = run(module.unlock, "joe", nil, path("notes"))
      turns()
      held.job:cancel()
      finished(unlocked)
      assert.is_true(unlocked.ok)
      assert.equal("lock\n", notes())
      let_go("a")
      has_threads(1)
      assert.truthy(notes():find("^lock\nunlock "))
   end)

   it("may come back, serve its lock and hang again", function()
      local module = popd.thread(MODULE, { threads = 1 })
      assert.is_true(module.lock("joe", nil, path("notes")))
      fifo("a")
      for _ = 1, 3 do
         hang(module.hold, "joe", path("a"))
         let_go("a")
         client.wait_for("the thread", function()
            local made = run(module.who, "joe")
            finished(made)
            return made.ok
         end)
         assert.equal(2, core.threads())
      end
      module.unlock("joe", nil, path("notes"))
      has_threads(1)
   end)

   for said, expected in pairs { ["true"] = "lock\nunlock ", ["false"] = "lock\n" } do
      it("in a lock that is given up and returns " .. said .. " late: there is no lock left", function()
         local module = popd.thread(MODULE, { threads = 1 })
         hang(module.lock, "joe", fifo("a"), path("notes"))
         assert.is_true(finished(run(module.lock, "joe"))) -- who knows whether the other one gets it
         let_go("a", said)
         has_threads(1)
         assert.equal(expected, notes():sub(1, #expected))
         assert.equal(said == "true", notes():find("unlock", 1, true) ~= nil)
         module.unlock("joe")
      end)
   end

   it("is one of a bounded number, and beyond it calls raise", function()
      local module = popd.thread(MODULE, { threads = 1 })
      for i = 1, 4 do
         hang(module.hold, nil, fifo("a" .. i))
      end
      local held = hold(module.hold, nil, fifo("last"))
      local waiting = run(module.echo, 1)
      turns()
      assert.is_nil(waiting.done)
      assert.equal(5, core.threads())
      held.job:cancel()
      assert.truthy(finished(waiting):find("it hangs in 5 threads, and more are not started", 1, true), waiting.value)
      local refused = run(module.echo, 1)
      assert.truthy(finished(refused):find("it hangs in 5 threads, and more are not started", 1, true), refused.value)
      let_go("a2")
      client.wait_for("a thread", function()
         local made = run(module.echo, "again")
         return finished(made) == "again"
      end)
      for _, name in ipairs { "a1", "a3", "a4", "last" } do
         let_go(name)
      end
      has_threads(1)
   end)

   it("whose place nobody can take, since the module does not load any more, says so until it does", function()
      local before = package.path
      package.path = dir .. "/?.lua;" .. before
      finally(function() package.path = before end)
      local text = files.text("spec/support/threaded.lua")
      files.put(path("changing.lua"), text)
      local module = popd.thread("changing", { threads = 1 })
      files.put(path("changing.lua"), "error('broken now')")
      hang(module.hold, nil, fifo("a"))
      local refused = run(module.echo, 1)
      assert.truthy(finished(refused):find("changing.lua:1: broken now", 1, true), refused.value)
      files.put(path("changing.lua"), text)
      client.wait_for("the module", function()
         return finished(run(module.echo, "well")) == "well"
      end)
      let_go("a")
      has_threads(1)
   end)

   it("when its result is on its way as its callback gives up: the lock is given back", function()
      local out, err = process([[
         local socket = require("socket")
         package.path = arg[1] .. ";" .. package.path
         local module = popd.thread("support.threaded", { threads = 1 })
         local watched = { getfd = function() return popd.fd() end }
         local function come(seconds) return socket.select({ watched }, nil, seconds)[1] end
         popd.fd()
         local ended
         local job = popd.spawn(function() ended = select(2, pcall(module.lock, "joe", arg[2], arg[3])) end)
         for i = 1, 5 do popd.spawn(module.echo, i) end
         repeat popd.step(0) until not come(0)
         local file = io.open(arg[2], "w")
         file:write("true\n")
         file:close()
         come(20)
         popd.step(0)   -- the result is there, its callback not yet told
         print(ended)
         job:cancel()
         while popd.step(0) do end
         print(ended:match("cancelled"))
         module.echo(1) -- the only thread is through with whatever came before
         for line in io.lines(arg[3]) do print(line:match("%a+")) end
         print(core.threads())]], package.path, fifo("a"), path("notes"))
      assert.equal("", err)
      assert.equal("nil\ncancelled\nlock\nunlock\n1\n", out)
   end)
end)

describe("a module in threads, in a process of its own,", function()
   before_each(setup)
   after_each(tidy)

   local closing = [[
      local kept = setmetatable({}, { __gc = function() io.stderr:write("closed\n") end })
      return { echo = function(...) return ... end, hold = function(name) return io.open(name):read("l"), kept end,
         arg = function() return arg[0], arg[1], #arg end }
   ]]

   local function run_process(text, ...)
      files.put(path("closing.lua"), closing)
      return process("package.path = arg[1] .. '/?.lua;' .. package.path\n" .. text, dir, ...)
   end

   it("has its states closed at the end", function()
      local out, err, status = run_process([[
         local module = popd.thread("closing")
         print(module.arg())
         os.exit(0, true)]], "more")
      assert.equal(path("script.lua") .. "\t" .. dir .. "\t2\n", out)
      assert.equal(("closed\n"):rep(4), err)
      assert.equal(0, status)
   end)

   for what, text in pairs {
      ["a callback waits for it"] = [[
         popd.spawn(function() module.hold(arg[2]) end)
         for _ = 1, 20 do popd.step(0) end]],
      ["nobody waits for it"] = [[
         local job = popd.spawn(function() pcall(module.hold, arg[2]) end)
         for _ = 1, 20 do popd.step(0) end
         job:cancel()
         popd.run()]],
   } do
      it("ends although a thread hangs: " .. what, function()
         local out, err, status = run_process([[
            local module = popd.thread("closing", { threads = 2 })
            ]] .. text .. [[

            print("ending")
            os.exit(0, true)]], fifo("a"))
         assert.equal("ending\n", out)
         assert.equal(0, status)
         assert.truthy(err:find("closed\n"), err)
      end)
   end

   it("does not wait for long: other threads are ended meanwhile", function()
      local before = core.now()
      run_process([[
         local module = popd.thread("closing", { threads = 8 })
         for i = 1, 4 do popd.spawn(function() module.hold(arg[2]) end) end
         for _ = 1, 20 do popd.step(0) end
         os.exit(0, true)]], fifo("a"))
      assert.is_true(core.now() - before < 10)
   end)

   it("cannot be called when the Lua state has ended it", function()
      local out = run_process([[
         local module = popd.thread("closing", { threads = 1 })
         debug.getregistry().late = setmetatable({}, { __gc = function() print(select(2, pcall(module.echo, 1))) end })
         os.exit(0, true)]])
      assert.truthy(out == "1\n" or out:find("popd is closed", 1, true), out)
   end)
end)

describe("a server whose storage is in threads", function()
   before_each(setup)
   after_each(tidy)

   local function serve(options)
      local module = popd.thread(MODULE, { threads = 2 })
      local seen = {}
      local all = {
         auth = { lookup = function(name) return "secret", name end },
         storage = {
            lock = function(mbox, conn)
               seen.conn = module.echo(conn)
               return module.lock(mbox, nil, path("notes"))
            end,
            unlock = function(mbox) return module.unlock(mbox, nil, path("notes")) end,
            stat = function(mbox) seen.home = module.who(mbox) return 1 end,
            size = function(mbox) seen.again = module.who(mbox) return 17 end,
            get = function(mbox) return module.hold(mbox, path("mail")) end,
         },
      }
      for name, value in pairs(options or {}) do
         all[name] = value
      end
      return client.server(all), seen
   end

   it("goes on with the other connections while a query takes long", function()
      local server = serve()
      fifo("mail")
      local slow, others = client.login(server), {}
      slow:send("RETR 1\r\n")
      turns()
      for i = 1, 5 do
         others[i] = client.connect(server)
         others[i]:command("USER user" .. i)
         assert.truthy(others[i]:command("PASS secret"):find("^%+OK"))
         assert.truthy(others[i]:command("NOOP"):find("^%+OK"))
      end
      assert.is_true(slow:silent())
      let_go("mail", "Subject: slow")
      assert.truthy(slow:line():find("^%+OK"))
      assert.equal("Subject: slow\r\n", slow:body())
   end)

   it("passes conn as a plain table, and keeps a session on one thread", function()
      local server, seen = serve()
      local c = client.login(server)
      c:command("STAT")
      assert.equal("table", type(seen.conn))
      assert.equal("auth", seen.conn.state)
      assert.equal("127.0.0.1", seen.conn.remotehost)
      assert.equal("integer", math.type(seen.conn.id))
      assert.is_nil(getmetatable(seen.conn))
      assert.equal(seen.home, seen.again)
   end)

   it("gives the lock back once although its thread hung when the session ended", function()
      local server = serve { callback_timeout = 0.05 }
      fifo("mail")
      local c = client.login(server)
      assert.truthy(c:command("RETR 1"):find("^%-ERR %[SYS/TEMP%]"))
      assert.is_true(c:closed()) -- a callback that was stopped ends its session
      assert.equal("lock\n", notes())
      let_go("mail")
      has_threads(2)
      assert.equal(1, select(2, notes():gsub("unlock", "")))
   end)
end)
