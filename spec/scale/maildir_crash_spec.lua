-- A server that is killed at each system call of a Maildir's deletion.
local files = require("support.files")
local process = require("support.process")
local socket = require("socket")

local MESSAGES = 7

-- What deletion is made of; strace counts each set by itself, in each thread.
local SETS = {
   "?unlink,?unlinkat,?rename,?renameat,?renameat2,?link,?linkat", "fsync", "?open,openat", "write", "?mkdir,?mkdirat",
   "close",
}

local function is_marked(number)
   return number % 2 == 1
end

local function text_of(number)
   return ("Subject: %d\n\ntext of %d\n"):format(number, number)
end

describe("a server that is killed while it deletes from a Maildir", function()
   local root, dir, servers

   local function start(how)
      local server = process.start {
         "--maildir", root, "--users", root .. "/users", "--address", "127.0.0.1", "--port", "0", "--dele", how,
      }
      servers[#servers + 1] = server
      server:wait_port()
      return server
   end

   local function open_session(server, commands)
      local sock = assert(socket.connect("127.0.0.1", server.port))
      sock:settimeout(30)
      assert(sock:send("USER joe\r\nPASS secret\r\n" .. table.concat(commands)))
      for _ = 1, 3 + #commands do
         assert.matches("^%+OK", assert(sock:receive("*l")))
      end
      return sock
   end

   local function fill()
      files.run("rm -rf %s; mkdir -p %s %s %s", dir, dir .. "/new", dir .. "/cur", dir .. "/tmp")
      for number = 1, MESSAGES do
         files.put(dir .. (number % 3 == 0 and "/new/%d.host" or "/cur/%d.host:2,S"):format(number), text_of(number))
      end
      files.put(dir .. "/maildirsize", "1000000S\n300 7\n")
   end

   -- Where strace stands between the server and the system; returns when it does.
   local function attach(server, set, when)
      local command = ("exec strace -f -p %d -o /dev/null -e trace=%s -e 'inject=%s:signal=KILL:when=%d' 2>&1"):format(
         server.pid, set, set, when)
      local pipe = assert(io.popen(command))
      local line = pipe:read("l")
      return pipe, line and line:find("attached") ~= nil
   end

   -- Every message's text, by where it is.
   local function found_now()
      local found, pipe = {}, assert(io.popen("find " .. files.quote(dir) .. " -type f -name '*.host*'"))
      for path in pipe:lines() do
         local number = tonumber(path:match("/(%d+)%.host[^/]*$"))
         if number then
            found[number] = found[number] or {}
            table.insert(found[number], { path = path:sub(#dir + 2), text = files.text(path) })
         end
      end
      pipe:close()
      return found
   end

   local gone_well = {
      unlink = function() return false end, -- nowhere
      flag = function(one) return one.path:find("^cur/.*:2,S?T$") ~= nil end,
      [".Trash"] = function(one) return one.path:find("^%.Trash/cur/") ~= nil end,
   }

   -- How many messages are shown, after it is seen that none is lost or altered.
   local function check(how, where)
      local found, shown = found_now(), 0
      for number = 1, MESSAGES do
         local copies = found[number] or {}
         for _, one in ipairs(copies) do
            assert.equal(text_of(number), one.text, where)
         end
         local one = copies[1]
         local deleted = one == nil or gone_well[how](one)
         assert.is_true(#copies <= 1, where)
         local may_be_gone = is_marked(number) and how == "unlink"
         assert.is_true(one ~= nil or may_be_gone, ("%s: message %d is lost"):format(where, number))
         assert.is_true(not deleted or is_marked(number), where)
         shown = shown + (deleted and 0 or 1)
      end
      return shown
   end

   -- Whether the server was killed, as a QUIT that deletes went on; nil: nothing can
   -- be killed so here.
   local function try(how, set, when)
      fill()
      local server, commands = start(how), {}
      for number = 1, MESSAGES do
         commands[#commands + 1] = is_marked(number) and ("DELE %d\r\n"):format(number) or "NOOP\r\n"
      end
      local sock = open_session(server, commands)
      local tracer, attached = attach(server, set, when)
      if not attached then
         tracer:close()
         return nil
      end
      sock:send("QUIT\r\n")
      local reply = sock:receive("*l")
      sock:close()
      server:stop("KILL")
      tracer:close()
      local where = ("%s, %s, call %d"):format(how, set, when)
      local shown = check(how, where)
      server = start(how)
      sock = open_session(server, {})
      sock:send("STAT\r\n")
      assert.matches(("^%%+OK %d "):format(shown), sock:receive("*l"), where)
      sock:close()
      server:stop("KILL")
      if reply then
         assert.equal(MESSAGES // 2, shown, where)
         assert.matches("^%+OK", reply)
      end
      return reply == nil
   end

   before_each(function()
      servers, root = {}, files.new_dir()
      dir = root .. "/joe"
      files.put(root .. "/users", "joe:{PLAIN}secret:joe\n")
   end)

   after_each(function()
      for _, server in ipairs(servers) do
         server:stop("KILL")
      end
      files.remove(root)
   end)

   for _, how in ipairs { "unlink", "flag", ".Trash" } do
      it(("loses no message that was not marked, and serves the next session: dele = %q"):format(how), function()
         if not process.has("strace") then
            return pending("strace is not installed")
         end
         local kills = 0
         for _, set in ipairs(SETS) do
            local when, killed = 0, true
            while killed do
               when = when + 1
               killed = try(how, set, when)
               if killed == nil then
                  return pending("strace may not attach here")
               end
               kills = kills + (killed and 1 or 0)
            end
         end
         print(("\n%d kills in a deletion (%s)"):format(kills, how))
         assert.is_true(kills >= 8)
      end)
   end
end)
