--- popd-lua beside the least that is possible, Dovecot at its best, and tcllib's pop3d.
--
--     make bench [BENCH="--only session,login --rounds 5"]
--     make bench-quick
--
-- The servers run on core 0, the load generator on core 1; rounds are interleaved.
-- CPU is that of all of a server's processes.  docs/performance.md explains.
local files = require("support.files")
local measure = require("bench.measure")
local process = require("support.process")
local report = require("bench.report")
local servers = require("bench.servers")
local socket = require("socket")

local BUILD = os.getenv("POPD_BUILD") or "build"

-- What is asked for -----------------------------------------------------------------------

local USAGE = [[
usage: bench.lua [--quick] [--only NAME,...] [--servers NAME,...] [--rounds N] [--seconds S] [--markdown]
]]

local function set_of(text)
   local set = {}
   for word in (text or ""):gmatch("[^,]+") do
      set[word] = true
   end
   return next(set) and set or nil
end

local function read_arguments(words)
   local asked, i = { rounds = 3, seconds = 3 }, 1
   while words[i] do
      local name = words[i]:match("^%-%-(%l+)$")
      if name == "quick" then
         asked.quick, asked.seconds = true, 0.4
      elseif name == "markdown" then
         asked.markdown = true
      elseif name == "rounds" or name == "seconds" then
         i = i + 1
         asked[name] = assert(tonumber(words[i]), USAGE)
      elseif name == "only" or name == "servers" then
         i = i + 1
         asked[name] = set_of(words[i])
      else
         error(USAGE, 0)
      end
      i = i + 1
   end
   return asked
end

local asked = read_arguments(arg)

-- Turns: one server, one workload, once ---------------------------------------------------

local function load_command(server, work, more)
   local words = {
      "taskset", "-c", 1, servers.program("load"), "--port", work.port or server.port, "--workload", work.load,
      "--connections", work.connections, "--repeat", work.repeats,
   }
   table.move(server.load, 1, #server.load, #words + 1, words)
   table.move(more, 1, #more, #words + 1, words)
   if work.tls == true then
      words[#words + 1] = work.resume and "--resume" or "--tls"
   end
   return servers.quoted(words)
end

local function parse(text)
   local seen = {}
   for key, value in text:gmatch("([%w_]+)=([%d.]+)") do
      seen[key] = tonumber(value)
   end
   return seen
end

-- Runs the generator; a wrong body or reply ends the bench. It never sleeps: on loopback waking a sleeping client
-- is a good part of a send's cost, which no server has whose clients are elsewhere.
local function run_load(server, work, seconds, count)
   local words = { "--awake", "--seconds", seconds, "--count", count or 100000000 }
   local pipe = assert(io.popen(load_command(server, work, words)))
   local text = pipe:read("a")
   assert(pipe:close(), ("%s: %s went wrong\n%s"):format(work.name, server.name, text))
   return parse(text)
end

-- The server's CPU for a unit of the work.
local function turn_of_cpu(server, work)
   local before = server:cpu()
   local seen = run_load(server, work, work.seconds, work.count)
   seen.cpu = server:cpu() - before
   assert(seen.sessions > 0, ("%s: %s completes no session in this time"):format(work.name, server.name))
   seen.value = work.value(seen)
   return seen
end

local function per_session(seen)
   return seen.cpu / seen.sessions * 1000
end

local function per_gigabyte(seen)
   return seen.cpu / seen.octets * 1e9
end

-- Holds so many connections at rest: the server's memory, and what the generator saw.
local function hold(server, work, connections)
   local out = os.tmpname()
   local words = { "--seconds", 120, "--count", connections, "--connections", connections }
   local pipe = assert(io.popen(("%s >%s"):format(load_command(server, work, words), out), "w"))
   local deadline = socket.gettime() + 60
   while not files.text(out):find("^ready") do
      assert(socket.gettime() < deadline, work.name .. ": connections do not come to rest at " .. server.name)
      socket.sleep(0.05)
   end
   socket.sleep(0.5) -- what a server does once its clients are quiet
   local memory = server:memory()
   pipe:close()
   local seen = parse(files.text(out))
   os.remove(out)
   assert(seen.sessions == connections and seen.unexpected == 0, work.name .. " went wrong")
   return memory, seen
end

-- The server's memory for each connection at rest beyond the first: pages that it shares
-- with the generator count alike in both.
local function turn_of_memory(server, work)
   local before = hold(server, work, 1)
   local after, seen = hold(server, work, work.connections)
   seen.total = after
   seen.value = (after - before) / (work.connections - 1) / 1024
   return seen
end

-- What keeps a server busy while others are measured: options of the generator.
local CROWDS = {
   { load = "huge", connections = 1, repeats = 1, first = 200 },
   { load = "retr", connections = 4, repeats = 1, first = 100 },
   { load = "greet", connections = 16, repeats = 1, first = 0, tls = true },
}

-- The measured clients come before the crowd on the generator's core, where the system allows that.
local FIRST = os.execute("chrt -f 1 true 2>/dev/null") and "chrt -f 1 " or ""

-- Has a Maildir change while it is served, so that each login has to read it.
local function disturb(dir, seconds)
   return assert(io.popen(("exec taskset -c 1 timeout %g sh -c 'while : >$0 && rm $0; do sleep 0.01; done' %s"):format(
      seconds, files.quote(dir .. "/cur/.changed"))))
end

local function start_crowds(server, work)
   local pipes = {}
   for i, crowd in ipairs(CROWDS) do
      crowd = setmetatable({ port = crowd.tls and server.tls_port or nil }, { __index = crowd })
      local words = { "--first", crowd.first, "--seconds", work.seconds + 1.5, "--count", 100000000 }
      pipes[i] = assert(io.popen(load_command(server, crowd, words)))
   end
   return pipes
end

-- The 99th percentile of what quiet clients wait for a reply while crowds keep the server busy.
local function turn_of_fairness(server, work)
   local disturber = disturb(server.mail .. "/u200", work.seconds + 1.5)
   local crowds = start_crowds(server, work)
   socket.sleep(0.3)
   local words = { "--pause-ms", 5, "--seconds", work.seconds, "--count", 100000000 }
   local pipe = assert(io.popen(FIRST .. load_command(server, work, words)))
   local text = pipe:read("a")
   local good = pipe:close()
   local beside = {}
   for i, crowd in ipairs(crowds) do
      local said = crowd:read("a")
      assert(crowd:close(), ("%s: %s went wrong with %s\n%s"):format(work.name, server.name, CROWDS[i].load, said))
      beside[i] = math.tointeger(parse(said).sessions)
   end
   disturber:close()
   assert(good, ("%s: %s went wrong\n%s"):format(work.name, server.name, text))
   local seen = parse(text)
   seen.value = seen.reply_p99_ms
   seen.extra = ("p99 of greetings %.2f, PASS %.2f, NOOP %.2f ms, beside %d logins, %d RETRs, %d handshakes"):format(
      seen.greeting_p99_ms, seen.pass_p99_ms, seen.noop_p99_ms, table.unpack(beside))
   return seen
end

-- Workloads ---------------------------------------------------------------------------------

-- `at` holds what differs for one server, `quick` what does in short (false: it is left
-- out). `fresh`: each turn has a server of its own. `own`: what mbedTLS is measured by, since it
-- cannot be as fast as OpenSSL: that work of the library's, with a workload `beside` it.
local MOST = { "limit", "popd", "dovecot", "tcllib" }
local PLAIN = { "limit", "uring", "popd", "dovecot", "tcllib" }
local SLOW = { connections = 1, repeats = 1, count = 1, once = true }
local FEW = { connections = 200, users = 200 }

local workloads = {
   {
      name = "session", what = "login, STAT, UIDL, LIST, 20 × RETR of 4 KB, QUIT", load = "session", users = 16,
      unit = "ms of CPU a session", value = per_session,
      servers = { "limit", "convert", "popd", "dovecot", "tcllib" },
      goals = { { of = "limit", most = 2.7 }, { of = "dovecot", most = 1 / 4.5 } },
   },
   {
      name = "login", what = "login, QUIT", load = "login", users = 16, unit = "ms of CPU a session",
      value = per_session, servers = PLAIN, goals = { { of = "limit", most = 1.9 }, { of = "dovecot", most = 1 / 14 } },
   },
   {
      name = "retr", what = "RETR of 10 MiB, stored with LF", load = "retr", users = 4, repeats = 8, mail = "retr",
      dovecot_clients = 1, unit = "s of CPU a GB", value = per_gigabyte,
      servers = { "limit", "convert", "popd", "dovecot", "tcllib" },
      at = { tcllib = SLOW }, quick = { repeats = 2 },
      goals = { { of = "convert", most = 1.2 }, { of = "dovecot", most = 1 / 3.5 } },
   },
   {
      name = "huge", what = "login, LIST and UIDL of 100 000 messages", load = "huge", users = 1, mail = "huge",
      unit = "ms of CPU a session", value = per_session, servers = MOST,
      at = { tcllib = { count = 1 } }, goals = { { of = "dovecot", most = 0.4 } },
   },
   {
      name = "rest", what = "clients at rest, logged in", load = "rest", users = 10000, mail = "rest", fresh = true,
      unit = "KiB of memory each", turn = turn_of_memory, servers = MOST, at = { dovecot = FEW, tcllib = FEW },
      quick = { users = 5000 },
      goals = { { of = "itself", most = 2.5 }, { of = "total", clients = 10000, most = 30 } },
   },
   {
      name = "rest-before", what = "clients at rest before their login", load = "rest-before", users = 10000,
      mail = "rest", fresh = true, unit = "KiB of memory each", turn = turn_of_memory, servers = MOST,
      at = { tcllib = FEW }, quick = { users = 2000 }, goals = { { of = "itself", most = 1 } },
   },
   {
      name = "handshake", what = "TLS handshake, greeting, QUIT", load = "greet", users = 16, mail = "rest", tls = true,
      unit = "ms of CPU each", value = per_session, servers = { "limit", "popd", "dovecot" },
      goals = { { of = "limit", most = 1.3 }, { of = "dovecot", most = 1 } }, own = "handshake, the server's side",
   },
   {
      name = "resume", what = "the same, with the TLS session of the connection before", load = "greet", users = 16,
      mail = "rest", tls = true, resume = true, unit = "ms of CPU each", value = per_session,
      servers = { "limit", "popd", "dovecot" },
      goals = { { of = "limit", most = 1.3 }, { of = "dovecot", most = 1 }, { of = "refused", most = 1 } },
   },
   {
      name = "retr-tls", what = "RETR of 10 MiB over TLS", load = "retr", users = 4, repeats = 8, mail = "retr",
      dovecot_clients = 1, tls = true, unit = "s of CPU a GB", value = per_gigabyte,
      servers = { "limit", "popd", "dovecot" },
      quick = { repeats = 2 }, goals = { { of = "limit", most = 2 }, { of = "dovecot", most = 1 / 3 } },
      own = "full records", beside = "retr",
   },
   {
      name = "fair", what = "NOOP beside logins to 100 000 messages, RETRs of 10 MiB and handshakes", load = "noop",
      users = 8, repeats = 50, dovecot_clients = 1, tls = "both", unit = "ms, p99 of a reply", turn = turn_of_fairness,
      mails = { { "rest", 8, 0 }, { "retr", 4, 100 }, { "huge", 1, 200 } }, servers = { "popd", "dovecot" },
      quick = false, goals = { { of = "itself", most = 5 } },
   },
}

-- A workload as it is run against one server.
local function work_for(workload, name)
   local work = setmetatable({}, { __index = workload })
   for _, own in ipairs { asked.quick and workload.quick or {}, workload.at and workload.at[name] or {} } do
      for key, value in pairs(own) do
         work[key] = value
      end
   end
   work.connections = work.connections or work.users
   work.repeats = work.repeats or 1
   work.seconds = asked.seconds
   return work
end

-- Mail -----------------------------------------------------------------------------------------

local root = files.new_dir()
local made = {}

-- Makes mail once for all workloads that need it: mailboxes, their users, the first one's number. Of what was
-- written just now nothing is left for later: the system's workers that bring it to the disk take the server's core
-- from it for ten milliseconds and more.
local function mail_for(layout, mails)
   local dir = ("%s/%s"):format(root, layout)
   for _, mail in ipairs(mails) do
      dir = ("%s-%s-%d"):format(dir, mail[1], mail[2])
   end
   if not made[dir] then
      for _, mail in ipairs(mails) do
         local box, users, first = table.unpack(mail)
         files.run("%s %s %s %s %s %s", servers.program("mailbox"), layout, box, tostring(users), dir, tostring(first))
      end
      servers.hand_over(dir)
      files.run("sync")
      made[dir] = true
   end
   return dir
end

local function certificate()
   local dir = root .. "/tls"
   if not made[dir] then
      files.run("mkdir -p %s", dir)
      assert(process.run { process.program(), "cert", "--out", dir, "localhost", "127.0.0.1" })
      servers.hand_over(dir)
      made[dir] = true
   end
   return dir .. "/cert.pem", dir .. "/key.pem"
end

local function site_for(workload, name)
   local work = work_for(workload, name)
   local mails = work.mails or { { work.mail or "session", work.users, 0 } }
   local site = {
      root = ("%s/%s"):format(root, workload.name), bin = root .. "/bin", load = work.load, repeats = work.repeats,
      users = work.users, dovecot_clients = workload.dovecot_clients or 1000,
      both = work.tls == "both",
   }
   if servers[name].files then
      site.files = mail_for("files", mails)
   else
      site.mail = mail_for("maildir", mails)
   end
   if work.tls then
      site.cert, site.key = certificate()
   end
   return site
end

-- Running -----------------------------------------------------------------------------------------

local function wanted_servers(workload)
   local names = {}
   for _, name in ipairs(workload.servers) do
      local missing = servers[name].missing()
      local named = asked.servers and asked.servers[name]
      local left_out = not named and (asked.servers or servers[name].aside) or asked.quick and name == "tcllib"
      if missing then
         print(("%s: %s is left out: %s"):format(workload.name, name, missing))
      elseif not left_out then
         names[#names + 1] = name
      end
   end
   return names
end

local function with_server(name, workload, running, f)
   local server = running[name] or servers.start(name, site_for(workload, name))
   running[name] = server
   local ok, result = pcall(f, server, work_for(workload, name))
   if workload.fresh or not ok then
      server:stop()
      running[name] = nil
   end
   assert(ok, result)
   return result
end

-- The first turn is for warming up: indexes are made, pages read.
local function warm_up(workload, names, running)
   for _, name in ipairs(names) do
      with_server(name, workload, running, function(server, work)
         if workload.turn then
            return workload.turn(server, work)
         end
         return work.once or run_load(server, work, math.min(0.5, asked.seconds), work.count)
      end)
   end
end

local function summary_of(turns)
   local values = {}
   for i, seen in ipairs(turns) do
      values[i] = seen.value
   end
   local last = turns[#turns]
   local extra = last.extra
      or last.asked and ("%.2f %% of %d resumptions granted"):format(last.resumed_percent, last.asked)
      or last.total and ("%.1f MiB with %d"):format(last.total / 1048576, last.sessions)
      or ("session p50 %.2f p99 %.2f ms, reply p99 %.3f ms"):format(last.session_p50_ms, last.session_p99_ms,
         last.reply_p99_ms)
   return { value = report.summary(values), turns = turns, extra = extra }
end

local function run_rounds(workload, names, running)
   local turns = {}
   if not workload.fresh then
      warm_up(workload, names, running)
   end
   for _ = 1, asked.quick and workload.turn and 1 or asked.rounds do
      for _, name in ipairs(names) do
         turns[name] = turns[name] or {}
         if not (#turns[name] > 0 and work_for(workload, name).once) then
            table.insert(turns[name], with_server(name, workload, running, workload.turn or turn_of_cpu))
         end
      end
   end
   return turns
end

local function first_line(command)
   return measure.lines_of(command .. " 2>/dev/null")[1] or "unknown"
end

local version = first_line(process.program() .. " --version")

-- What the TLS library takes by itself, by what it is.
local function primitives()
   local costs = {}
   for _, line in ipairs(measure.lines_of(servers.quoted { "taskset", "-c", 0, servers.program("primitives"),
      certificate() })) do
      local what, cost = line:match("^[^:]+: ([^:]+): ([%d.]+)")
      costs[what] = tonumber(cost)
   end
   return costs
end

local function median_of(results, name)
   for _, result in ipairs(results) do
      if result.name == name then
         return result.servers.popd and result.servers.popd.value.median
      end
   end
end

-- What popd-lua could be at best with this library, or nil: what is beside it was not measured.
local function own_cost(workload, results)
   local beside = 0
   if workload.beside then
      beside = median_of(results, workload.beside)
   end
   return beside and primitives()[workload.own] + beside
end

local function run(workload, results)
   local names, running = wanted_servers(workload), {}
   files.run("mkdir -p %s", ("%s/%s"):format(root, workload.name))
   local ok, turns = pcall(run_rounds, workload, names, running)
   for _, server in pairs(running) do
      server:stop()
   end
   assert(ok, turns)
   local result = {
      name = workload.name, what = workload.what, unit = workload.unit, goals = workload.goals, order = names,
      servers = {},
   }
   for _, name in ipairs(names) do
      result.servers[name] = summary_of(turns[name])
   end
   if workload.own and version:find("mbedTLS") then
      result.goals, result.library = { { of = "library", most = 1.1 } }, own_cost(workload, results)
   end
   return result
end

local function describe_machine()
   return {
      date = os.date("!%Y-%m-%d"),
      kernel = first_line("uname -sr"),
      processor = first_line("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo"),
      cores = first_line("nproc"),
      dovecot = first_line("PATH=$PATH:/usr/sbin dovecot --version"),
      popd = version,
      load = first_line("cut -d' ' -f1-3 /proc/loadavg"),
   }
end

local function describe(machine)
   return ("%s, %s × %s, %s, %s, Dovecot %s; load before: %s"):format(machine.date, machine.cores,
      machine.processor, machine.kernel, machine.popd, machine.dovecot, machine.load)
end

local function main()
   assert(tonumber(first_line("nproc")) >= 2, "the bench needs two cores: one for the server, one for its clients")
   local machine, results = describe_machine(), {}
   print(describe(machine))
   files.run("chmod 755 %s", root)
   servers.install(root .. "/bin")
   for _, workload in ipairs(workloads) do
      local wanted = asked.only and asked.only[workload.name] or not asked.only
      if wanted and not (asked.quick and workload.quick == false) then
         results[#results + 1] = run(workload, results)
         report.print(results[#results])
      end
   end
   report.write(BUILD .. "/bench", machine, results)
   if asked.markdown then
      print("\n" .. describe(machine) .. "\n\n" .. report.markdown(results))
   end
   print(("\nwritten: %s/bench/result.json, table.md, *.svg"):format(BUILD))
end

local ok, err = pcall(main)
files.remove(root)
if not ok then
   io.stderr:write(tostring(err), "\n")
   os.exit(1)
end
