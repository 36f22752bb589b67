-- A server that is killed while it deletes.
local corpus = require("support.corpus")
local files = require("support.files")
local process = require("support.process")
local socket = require("socket")

local TRIES, MESSAGES = 100, 300
local SEED = 4711

-- Marks every message but each third one.
local function is_marked(number)
   return number % 3 ~= 0
end

local function marked_numbers()
   local list = {}
   for number = 1, MESSAGES do
      if is_marked(number) then
         list[#list + 1] = number
      end
   end
   return list
end

-- Each of these is up already when QUIT is sent, since starting a process takes
-- longer than all deletions do.

-- Ends a process when told to; the function returned tells it.
local function killer(pid)
   local pipe = assert(io.popen(("read -r _ && kill -9 %d"):format(pid), "w"))
   return function()
      pipe:write("\n")
      pipe:close()
   end
end

-- Ends a process as soon as a file is gone; the function returned waits for it.
local function killer_at(pid, path)
   local program = "$| = 1; alarm 20; print qq{up\n}; 1 while -e $ARGV[0]; kill 9, $ARGV[1]"
   local pipe = assert(io.popen(("perl -e %s %s %d"):format(files.quote(program), files.quote(path), pid)))
   assert(pipe:read("l") == "up")
   return function()
      pipe:close()
   end
end

local function connect(port)
   local sock = assert(socket.connect("127.0.0.1", port))
   sock:settimeout(30)
   sock:setoption("tcp-nodelay", true)
   return sock
end

-- Sends commands and reads one line for each, and the greeting.
local function open_session(port, commands)
   local sock = connect(port)
   assert(sock:send(table.concat(commands, "\r\n") .. "\r\n"))
   for n = 0, #commands do
      local line = assert(sock:receive("*l"))
      assert.matches("^%+OK", line, nil, nil, commands[n])
   end
   return sock
end

local function mark_all(port, numbers)
   local commands = { "USER joe", "PASS secret" }
   for i, number in ipairs(numbers) do
      commands[i + 2] = "DELE " .. number
   end
   return open_session(port, commands)
end

-- What a crash must not have done: the messages that are not as they have to be.
local function damage(dir, messages)
   local left, n = corpus.left(dir)
   local bad = {}
   for _, message in ipairs(messages) do
      local there = left[message.file]
      left[message.file] = nil
      if there and files.text(dir .. "/" .. message.file) ~= message.stored then
         bad[#bad + 1] = message.file .. " is altered"
      elseif not there and not is_marked(message.number) then
         bad[#bad + 1] = message.file .. " is lost"
      end
   end
   for file in pairs(left) do
      bad[#bad + 1] = file .. " was not there before"
   end
   return bad, n
end

describe("SIGKILL in the middle of QUIT", function()
   local root, messages, dir, servers
   local tries = {} -- each with bad, left, reply

   -- Starts a server; whatever happens, it is ended at the end.
   local function start()
      local server = process.serve_maildir(root)
      servers[#servers + 1] = server
      return server
   end

   -- The next server's answer to the login, and its STAT.
   local function next_session()
      local server = start()
      local sock = open_session(server.port, { "USER joe", "PASS secret" })
      sock:send("STAT\r\nQUIT\r\n")
      local stat = sock:receive("*l")
      sock:receive("*a")
      sock:close()
      server:stop()
      return stat
   end

   -- Kills the server when `seen` deletions were seen; 0: as soon as QUIT was sent.
   local function try(seen)
      files.run("rm -rf %s && cp -r %s/template %s", dir, root, dir)
      local numbers, server = marked_numbers(), start()
      local sock = mark_all(server.port, numbers)
      local path = seen > 0 and dir .. "/" .. messages[numbers[seen]].file
      local kill = path and killer_at(server.pid, path) or killer(server.pid)
      sock:send("QUIT\r\n")
      kill()
      server:stop("KILL")
      sock:close()
      local bad, left = damage(dir, messages)
      return { bad = bad, left = left, killed = server.status == 137, stat = next_session() }
   end

   lazy_setup(function()
      servers, root = {}, files.new_dir()
      dir, messages = root .. "/joe", corpus.small(MESSAGES)
      corpus.write(root .. "/template", messages)
      math.randomseed(SEED)
      local most = #marked_numbers() // 2 -- the kill itself takes time, in which more are deleted
      for n = 1, TRIES do
         tries[n] = try(n % 5 == 0 and 0 or math.random(most))
      end
   end)

   lazy_teardown(function()
      for _, server in ipairs(servers) do
         server:stop("KILL")
      end
      files.remove(root)
   end)

   it("loses and alters no message that was not marked", function()
      for n, one in ipairs(tries) do
         assert.same({}, one.bad, "try " .. n)
      end
      assert.equal(TRIES, #tries)
   end)

   it("leaves the lock free for the next server, which serves what is left", function()
      for _, one in ipairs(tries) do
         assert.matches(("^%%+OK %d "):format(one.left), one.stat)
      end
   end)

   it("comes in the middle often enough for this to mean something", function()
      local midway, unmarked = 0, MESSAGES - #marked_numbers()
      for _, one in ipairs(tries) do
         assert.is_true(one.killed)
         if one.left > unmarked and one.left < MESSAGES then
            midway = midway + 1
         end
      end
      print(("\n%d of %d kills came between the first deletion and the last"):format(midway, TRIES))
      assert.is_true(midway >= 10)
   end)
end)
