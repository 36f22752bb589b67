--- What opening a Maildir of 100 000 messages costs that has changed since it was open last: login,
-- LIST and UIDL, warm, of popd-lua and, where it is installed, of Dovecot, in turns.
--
--     make bench-large [MESSAGES=100000] [ROUNDS=7]
--
-- Everything is in a directory of the bench's own and listens on 127.0.0.1.  CPU is
-- that of all the server's processes and threads, in seconds.
local dovecot_config = require("support.dovecot_config")
local files = require("support.files")
local measure = require("bench.measure")
local process = require("support.process")
local socket = require("socket")
local turns = require("support.turns")

local MESSAGES, ROUNDS = tonumber(arg[1]) or 100000, tonumber(arg[2]) or 7
local USER = "joe"

local root = files.new_dir()

-- The Maildir -----------------------------------------------------------------

-- Small messages of many sizes, the same each time.
local function make_messages(dir)
   files.run("mkdir -p %s %s %s", dir .. "/cur", dir .. "/new", dir .. "/tmp")
   for i = 1, MESSAGES do
      local text = ("Subject: message %d\n\n"):format(i) .. ("some text of a message\n"):rep(8 + i % 20)
      local lines = select(2, text:gsub("\n", ""))
      files.put(("%s/cur/%d.M%06dP%d.host.example,S=%d,W=%d:2,S"):format(dir, 1700000000 + i * 37,
         i * 7919 % 1000000, 1000 + i % 30000, #text, #text + lines), text)
   end
end

-- Processes -------------------------------------------------------------------

-- A process and all that it started.
local function family(pid)
   local all = measure.below(pid)
   table.insert(all, 1, pid)
   return all
end

-- Seconds of CPU by process.
local function cpu_of(pid)
   local used = {}
   for _, one in ipairs(family(pid)) do
      local sum = 0
      for _, line in ipairs(measure.lines_of(("cat /proc/%d/task/*/schedstat 2>/dev/null"):format(one))) do
         sum = sum + tonumber(line:match("^%d+")) / 1e9
      end
      used[one] = sum
   end
   return used
end

local function cpu_between(before, after)
   local sum = 0
   for pid, seconds in pairs(after) do
      sum = sum + seconds - (before[pid] or 0)
   end
   return sum
end

-- Private memory and the share of what is common, in KiB.
local function memory_of(pid)
   local sum = 0
   for _, one in ipairs(family(pid)) do
      local ok, text = pcall(files.text, ("/proc/%d/smaps_rollup"):format(one))
      sum = sum + (ok and tonumber(text:match("Pss:%s*(%d+) kB")) or 0)
   end
   return sum
end

-- Servers -----------------------------------------------------------------------

-- ann is who says NOOP meanwhile.
local function start_popd(options)
   files.put(root .. "/users", "joe:{PLAIN}secret:joe\nann:{PLAIN}secret:ann\n")
   local server = process.start({
      "--maildir", root, "--users", root .. "/users", "--address", "127.0.0.1", "--port", "0",
   }, options)
   server:wait_port()
   return { name = "popd-lua", port = server.port, pid = server.pid, stop = function() server:stop("KILL") end }
end

local DOVECOT = [[
mail_location = maildir:%s/joe:INDEX=%s/index
mail_fsync = never
service pop3-login {
  service_count = 0
  process_min_avail = 1
}
service pop3 {
  service_count = 0
  process_min_avail = 1
}
]]

-- Dovecot serves nobody as root: it runs as nobody, and so the Maildir is nobody's.
local function start_dovecot()
   if dovecot_config.missing() then
      return nil
   end
   local user, group = dovecot_config.serves_as()
   local as_root = files.first_line("id -u") == "0"
   local dir, port = root .. "/dovecot", process.free_port()
   files.run("mkdir -p %s; touch %s", dir .. "/index", dir .. "/log")
   local config = dovecot_config.write(dir, root, port, DOVECOT:format(root, dir))
   if as_root then
      files.run("chmod 755 %s; chown -R %s %s %s", root, user .. ":" .. group, dir, root .. "/joe")
   end
   local drop = as_root and ("setpriv --reuid=%s --regid=%s --clear-groups -- "):format(user, group) or ""
   local command = ("%s%s -F -c %s >/dev/null 2>&1 & echo $!"):format(drop, dovecot_config.path, files.quote(config))
   local pid = tonumber(measure.lines_of(command)[1])
   local deadline = socket.gettime() + 10
   while not socket.connect("127.0.0.1", port) do
      assert(socket.gettime() < deadline, "Dovecot does not start:\n" .. files.text(dir .. "/log"))
      socket.sleep(0.05)
   end
   return { name = "Dovecot", port = port, pid = pid, stop = function() files.run("kill " .. pid) end }
end

-- Sessions ----------------------------------------------------------------------

local function answer(sock)
   local line = assert(sock:receive("*l"))
   assert(line:find("^%+OK"), line)
end

-- A list's octets; not taken apart, so that the client costs little.
local function read_list(sock)
   local tail, octets = "", 0
   sock:settimeout(0)
   while tail ~= "\r\n.\r\n" do
      local chunk, why, part = sock:receive(65536)
      local got = chunk or part
      tail, octets = (tail .. got):sub(-5), octets + #got
      if why and tail ~= "\r\n.\r\n" then
         assert(why == "timeout" and #socket.select({ sock }, nil, 30) > 0, "the list ends early")
      end
   end
   sock:settimeout(30)
   return octets
end

local function say(sock, command)
   assert(sock:send(command .. "\r\n"))
   answer(sock)
end

-- Something that no server shows came and went: the directory is another.
local function change()
   local path = ("%s/%s/cur/.changed"):format(root, USER)
   files.put(path, "")
   assert(os.remove(path))
end

-- Seconds of CPU and of the clock; the server's memory in the session, if asked.
local function session(server, with_memory)
   change()
   local sock = assert(socket.connect("127.0.0.1", server.port))
   sock:settimeout(30)
   sock:setoption("tcp-nodelay", true)
   answer(sock)
   local before, from = cpu_of(server.pid), socket.gettime()
   say(sock, "USER " .. USER)
   say(sock, "PASS secret")
   say(sock, "LIST")
   read_list(sock)
   say(sock, "UIDL")
   read_list(sock)
   local wall = socket.gettime() - from
   local cpu = cpu_between(before, cpu_of(server.pid))
   local memory = with_memory and memory_of(server.pid)
   say(sock, "QUIT")
   sock:close()
   return cpu, wall, memory
end

local function median(values)
   local sorted = table.move(values, 1, #values, 1, {})
   table.sort(sorted)
   return sorted[(#sorted + 1) // 2], sorted[1], sorted[#sorted]
end

local function print_row(name, what, values)
   print(("%-10s %-6s %7.3f s  (%.3f to %.3f)"):format(name, what, median(values)))
end

-- The longest turn of the loop in such sessions: what another waits at most if the
-- machine has time for it.
local function longest_turn()
   local library = turns.library(root)
   if not library then
      return nil
   end
   local server = start_popd { preload = library, environment = { "TURNS=" .. root .. "/turns" } }
   for _ = 1, 5 do
      session(server)
   end
   server.stop()
   return turns.longest(root .. "/turns")
end

-- What another connection waits while such sessions go on: NOOPs of a process of its own.
local function longest_wait(server)
   local script = files.put(root .. "/noops.lua", [[
      local socket, port, seconds = require("socket"), tonumber(arg[1]), tonumber(arg[2])
      local sock = assert(socket.connect("127.0.0.1", port))
      sock:setoption("tcp-nodelay", true)
      local function say(text) sock:send(text .. "\r\n") return assert(sock:receive("*l")) end
      sock:receive("*l")
      say("USER ann") assert(say("PASS secret"):find("^%+OK"))
      local waits, until_ = {}, socket.gettime() + seconds
      while socket.gettime() < until_ do
         local from = socket.gettime()
         say("NOOP")
         waits[#waits + 1] = (socket.gettime() - from) * 1000
      end
      table.sort(waits)
      print(("%d NOOPs: %.2f ms at worst, p99.9 %.2f ms, median %.3f ms"):format(#waits, waits[#waits],
         waits[math.ceil(#waits * 0.999)], waits[#waits // 2]))
   ]])
   local pipe = io.popen(files.lua(script) .. (" %d %d"):format(server.port, 4))
   local stop = socket.gettime() + 3.5
   local n = 0
   while socket.gettime() < stop do
      session(server)
      n = n + 1
   end
   local said = pipe:read("a")
   pipe:close()
   return n, said
end

local function run()
   io.write(("making %d messages …\n"):format(MESSAGES))
   make_messages(root .. "/joe")
   files.run("mkdir -p %s", root .. "/ann/new")
   local servers = { start_popd(), start_dovecot() }
   local ok, err = pcall(function()
      local figures = {}
      for _, server in ipairs(servers) do
         figures[server.name] = { cpu = {}, wall = {}, rest = memory_of(server.pid) }
         local cpu, wall = session(server)
         print(("%-10s first session: %.3f s of CPU, %.3f s"):format(server.name, cpu, wall))
         session(server)
      end
      for round = 1, ROUNDS do
         for _, server in ipairs(servers) do
            local mine = figures[server.name]
            mine.cpu[round], mine.wall[round], mine.memory = session(server, true)
         end
      end
      for _, server in ipairs(servers) do
         print_row(server.name, "CPU", figures[server.name].cpu)
         print_row(server.name, "clock", figures[server.name].wall)
         local mine = figures[server.name]
         print(("%-10s memory %.1f MiB in the session, %.1f MiB at the start: %.0f octets a message"):format(
            server.name, mine.memory / 1024, mine.rest / 1024, (mine.memory - mine.rest) * 1024 / MESSAGES))
      end
      if servers[2] then
         print(("ratio: %.2f of Dovecot's CPU, %.2f of its time"):format(
            median(figures["popd-lua"].cpu) / median(figures.Dovecot.cpu),
            median(figures["popd-lua"].wall) / median(figures.Dovecot.wall)))
      else
         print("Dovecot is not installed (make peers)")
      end
      print(("the longest turn of popd-lua's loop: %.2f ms of CPU"):format(longest_turn() or 0 / 0))
      print(("beside %d such sessions another connection waited: %s"):format(longest_wait(servers[1])))
   end)
   for _, server in ipairs(servers) do
      server.stop()
   end
   files.remove(root)
   assert(ok, err)
end

run()
