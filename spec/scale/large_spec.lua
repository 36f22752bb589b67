-- A Maildir of very many messages keeps nobody waiting: no turn of the loop is long.
local files = require("support.files")
local process = require("support.process")
local talk = require("support.talk")
local turns = require("support.turns")

local say = talk.say

local MESSAGES = 20000
local MOST = 5 -- milliseconds of CPU in one turn

describe("a Maildir of twenty thousand messages", function()
   local root, server, library

   local function list(sock, command)
      local lines = {}
      assert.matches("^%+OK", say(sock, command))
      for line in function() return sock:receive("*l") end do
         if line == "." then
            return lines
         end
         lines[#lines + 1] = line
      end
   end

   local function login()
      return assert(talk.login(server.port, "joe"))
   end

   local function quit(sock)
      assert.matches("^%+OK", say(sock, "QUIT"))
      sock:close()
   end

   -- name: what %d becomes a message's name in, and its text
   local function start(name)
      files.run("mkdir -p %s %s %s", root .. "/joe/new", root .. "/joe/cur", root .. "/joe/tmp")
      files.run([[cd %s && for i in $(seq 1 ]] .. MESSAGES .. [[); do echo text > "cur/]] .. name .. [[:2,S"; done]],
         root .. "/joe")
      files.put(root .. "/users", "joe:{PLAIN}secret:joe\n")
      files.put(root .. "/turns", "0\n")
      server = process.start({
         "--maildir", root, "--users", root .. "/users", "--address", "127.0.0.1", "--port", "0",
      }, { preload = library, environment = library and { "TURNS=" .. root .. "/turns" } })
      server:wait_port()
   end

   before_each(function()
      root = files.new_dir()
      library = turns.library(root)
   end)

   after_each(function()
      if server then
         server:stop("KILL")
      end
      files.remove(root)
   end)

   local function check_turns()
      if library then
         local longest = turns.longest(root .. "/turns")
         print(("\nthe longest turn took %.2f ms"):format(longest))
         assert.is_true(longest > 0 and longest < MOST, ("a turn took %.2f ms"):format(longest))
      end
   end

   it("that tell their sizes is opened, listed and emptied", function()
      start("$i.host,S=5,W=6")
      for _ = 1, 3 do
         local sock = login()
         assert.equal(("+OK %d %d"):format(MESSAGES, 6 * MESSAGES), say(sock, "STAT"))
         local sizes, uids = list(sock, "LIST"), list(sock, "UIDL")
         for _, number in ipairs { 1, 2, MESSAGES // 2, MESSAGES } do
            assert.equal(number .. " 6", sizes[number])
            assert.equal(("%d %d.host,S=5,W=6"):format(number, number), uids[number])
         end
         assert.equal(MESSAGES, #sizes)
         assert.equal(MESSAGES, #uids)
         quit(sock)
      end
      local sock, commands = login(), {}
      for number = 1, MESSAGES do
         commands[number] = "DELE " .. number .. "\r\n"
      end
      for number = 1, MESSAGES do
         if number % 1000 == 1 then
            assert(sock:send(table.concat(commands, "", number, math.min(number + 999, MESSAGES))))
         end
         assert.matches("^%+OK", assert(sock:receive("*l")))
      end
      quit(sock)
      sock = login()
      assert.equal("+OK 0 0", say(sock, "STAT"))
      quit(sock)
      check_turns()
   end)

   it("that do not is counted once", function()
      start("$i.host")
      for _ = 1, 2 do
         local sock = login()
         assert.equal(("+OK %d %d"):format(MESSAGES, 6 * MESSAGES), say(sock, "STAT"))
         quit(sock)
      end
      check_turns()
   end)
end)
