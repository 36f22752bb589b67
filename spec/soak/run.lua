-- `make soak`: sessions by the thousand against callbacks that wait, fail, loop
-- and hang; when the last one has gone, nothing may be left of them.
--
--     lua5.4 spec/soak/run.lua SECONDS CLIENTS [SEED]
--
-- A first round of the same kind warms up whatever is kept for reuse; what the
-- counters tell then is compared with what they tell after the long one.
local files = require("spec.support.files")
local popd = require("popd")
local socket = require("popd.socket")

local seconds, clients = tonumber(arg[1]), math.tointeger(tonumber(arg[2]))
local seed = math.tointeger(tonumber(arg[3])) or os.time()
local warm_up = math.max(20, seconds / 10)

-- What may be left after all sessions of the long round, in octets: less than one
-- for each of them.
local ROOM = 262144

local dir = files.new_dir()
local started = {}

-- A program of ours: its process, and the first line that it prints.
local function start(name, ...)
   local words = {}
   for i, word in ipairs { ... } do
      words[i] = files.quote(tostring(word))
   end
   local line = ("ulimit -n 16384; echo $$; exec %s %s --log error spec/soak/%s.lua %s 2>%s/%s.log"):format(
      files.quote(os.getenv("POPD_LUA") or "build/popd-lua"), table.concat(files.as_oneself(), " "), name,
      table.concat(words, " "), files.quote(dir), name)
   local self = { pipe = assert(io.popen(line)) }
   self.pid = self.pipe:read("l")
   started[self] = true
   return self, self.pipe
end

-- Waits for its end, and tells it as `pipe:close` does.
local function ended(self)
   started[self] = nil
   return self.pipe:close()
end

local function stop_all()
   for one in pairs(started) do
      os.execute(("kill -9 %s 2>/dev/null"):format(one.pid))
      ended(one)
   end
end

local function parse(line)
   local values = {}
   for name, value in line:gmatch("(%w+)=(%d+)") do
      values[name] = math.tointeger(tonumber(value))
   end
   return values
end

local control

local function counters()
   assert(control:send("XCOUNTERS\r\n"))
   local line = assert(control:receive())
   return parse(line), line
end

-- The counters once nobody is there and nothing runs any more.
local function settled()
   local now, line
   for _ = 1, 600 do
      now, line = counters()
      if now.connections == 0 and now.tasks == 0 and now.held == 0 then
         popd.sleep(5) -- what is idle is closed after two seconds, hung threads come back after three
         return counters()
      end
      popd.sleep(0.1)
   end
   error("the server does not come to rest: " .. line)
end

local failed = 0

local function check(what, good, told)
   failed = failed + (good and 0 or 1)
   print(("%-58s %s%s"):format(what, good and "holds" or "FAILS", told and ": " .. told or ""))
end

local function round(port, time, round_seed)
   local self, pipe = start("clients", port, time, clients, round_seed)
   local last
   for line in pipe:lines() do
      if not line:find("^ended ") then
         print(line)
      end
      last = line
   end
   local _, how, code = ended(self)
   return parse(assert(last and last:match("^ended .*"),
      ("the clients ended early, by %s %d: see %s/clients.log"):format(how, code, dir)))
end

local function compare(before, after)
   for _, name in ipairs { "connections", "tasks", "held" } do
      check("nothing is left: " .. name, after[name] == 0, tostring(after[name]))
   end
   check("each lock is given back once", after.locks == after.unlocks,
      ("%d locks, %d unlocks"):format(after.locks, after.unlocks))
   check("no answer of another session was read", after.foreign == 0, tostring(after.foreign))
   for _, name in ipairs { "descriptors", "coroutines" } do
      check("as many as before: " .. name, after[name] <= before[name],
         ("%d, then %d"):format(before[name], after[name]))
   end
   for _, name in ipairs { "lua", "heap" } do
      check(("octets as before, within %d: %s"):format(ROOM, name), after[name] - before[name] <= ROOM,
         ("%d, then %d"):format(before[name], after[name]))
   end
end

local function prepare()
   files.run("%s cert --out %s localhost >/dev/null", os.getenv("POPD_LUA") or "build/popd-lua", dir)
   for n = 4, clients, 4 do
      local user = "m" .. n
      files.run("mkdir -p %s/%s/new %s/%s/cur %s/%s/tmp", dir, user, dir, user, dir, user)
      for id = 1, 4 do
         files.put(("%s/%s/new/%d.a.host"):format(dir, user, id), ("Subject: %s/%d\n\n%s\n.a dot\n"):format(user, id,
            (user .. " " .. id .. "\n"):rep(id * 40)))
      end
   end
end

local function main()
   prepare()
   local _, echo = start("echo")
   local _, server = start("server", dir, parse(echo:read("l")).port, seed)
   local ports = parse(server:read("l"))
   control = assert(socket.connect("127.0.0.1", ports.control))
   control:receive()
   print(("seed %d: %d clients, %d s to warm up, %d s"):format(seed, clients, warm_up, seconds))
   round(ports.port, warm_up, seed)
   local before = settled()
   local seen = round(ports.port, seconds, seed + 1)
   local after, line = settled()
   print(line)
   print(("%d sessions, %d broken off, %d logins refused, %d messages fetched, %d over TLS"):format(seen.sessions,
      seen.aborts, seen.refused, seen.fetched, seen.tls))
   check("messages that look whole are whole", seen.wrong == 0, tostring(seen.wrong))
   compare(before, after)
   for _, name in ipairs { "faults", "trips", "waits" } do
      check("there were enough of them: " .. name, after[name] - before[name] > 0, tostring(after[name] - before[name]))
   end
end

local ok, why = xpcall(main, debug.traceback)
stop_all()
if ok and failed == 0 then
   files.remove(dir)
else
   print(ok and "logs: " .. dir or why .. "\nlogs: " .. dir)
end
os.exit(ok and failed == 0)
