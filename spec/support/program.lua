--- Programs under test: started as a user starts them, read line by line, and
-- talked to through a blocking socket.
local files = require("spec.support.files")
local process = require("spec.support.process")
local socket = require("socket")

local program = {}

-- Nothing waits for this long; it ends what hangs, so that a spec fails.
local SAFETY = 30

--- popd-lua's path.
function program.path()
   return files.absolute(os.getenv("POPD_LUA") or "build/popd-lua")
end

--- popd-lua itself, as words of a command; it serves as whoever runs the specs.
function program.popd_lua()
   return { program.path(), table.unpack(files.as_oneself()) }
end

--- lua5.4 with this process's modules.
function program.lua()
   local words = { "env", "LUA_PATH=" .. package.path, "LUA_CPATH=" .. package.cpath, files.interpreter }
   if os.getenv("POPD_INTERPRETER") then
      table.move(files.as_oneself(), 1, 2, #words + 1, words)
   end
   return words
end

local function quoted(command, words)
   return process.command_line(command) .. " " .. process.command_line(words)
end

--- Runs a command to its end.
-- @tparam table command words
-- @param ... its arguments
-- @treturn integer status, then what it wrote: output, errors
function program.run(command, ...)
   local dir = files.new_dir()
   local line = ("timeout -k 5 %d %s </dev/null >%s/out 2>%s/err"):format(SAFETY, quoted(command, { ... }), dir, dir)
   local _, _, status = os.execute(line)
   local out, err = files.text(dir .. "/out"), files.text(dir .. "/err")
   files.remove(dir)
   return status, out, err
end

local Started = {}
Started.__index = Started

--- Starts a command that goes on.
-- @tparam table command words
-- @param ... its arguments
-- @return with `pid`, and `said`: the lines that were read so far, output and errors alike
function program.start(command, ...)
   local line = ("exec timeout -k 5 %d sh -c 'echo $$; exec \"$@\"' sh %s </dev/null 2>&1"):format(
      SAFETY, quoted(command, { ... }))
   local self = setmetatable({ pipe = assert(io.popen(line)), said = {} }, Started)
   self.pid = assert(math.tointeger(tonumber(self.pipe:read("l"))))
   return self
end

--- Reads on until a line matches.
-- @string pattern
-- @return the pattern's captures
function Started:wait_for(pattern)
   for line in self.pipe:lines() do
      self.said[#self.said + 1] = line
      if line:find(pattern) then
         return line:match(pattern)
      end
   end
   error(("ended before a line like '%s':\n%s"):format(pattern, table.concat(self.said, "\n")), 2)
end

--- The port that its log says it listens on.
function Started:port()
   return math.tointeger(tonumber(self:wait_for(" listening .*port=(%d+)")))
end

--- Sends a signal.
-- @string name such as "TERM"
function Started:signal(name)
   files.run(("kill -%s %d"):format(name, self.pid))
end

--- Sends a signal again and again until it has ended: two that come while it is
-- not scheduled are one to it.
function Started:signal_until_gone(name)
   os.execute(("n=0; while kill -%s %d 2>/dev/null && [ $n -lt 100000 ]; do n=$((n+1)); done"):format(name, self.pid))
end

--- Waits for its end.
-- @treturn string "exit" or "signal"
-- @treturn integer its status, or the signal's number
function Started:ended()
   for line in self.pipe:lines() do
      self.said[#self.said + 1] = line
   end
   local _, how, number = self.pipe:close()
   self.pipe = nil
   return how, number
end

--- Ends it, if it has not ended.
function Started:stop()
   if self.pipe then
      os.execute(("kill -9 %d 2>/dev/null"):format(self.pid))
      self:ended()
   end
end

local Client = {}
Client.__index = Client

--- A connection to a port of this machine, its greeting read.
function program.connect(port, address)
   local self = setmetatable({ socket = assert(socket.connect(address or "127.0.0.1", port)) }, Client)
   self.socket:settimeout(SAFETY)
   self.greeting = self:line()
   return self
end

--- A line of the server; nil and "closed" at the connection's end.
function Client:line()
   local line, why = self.socket:receive("*l")
   return line, why
end

--- Sends commands and returns the reply to the last one.
function Client:say(...)
   local reply
   for _, command in ipairs { ... } do
      assert(self.socket:send(command .. "\r\n"))
      reply = self:line()
   end
   return reply
end

--- Sends a command and returns the lines of its multi-line reply, undotted.
function Client:multi(command)
   local first, lines = self:say(command), {}
   assert(first and first:find("^%+OK"), first)
   while true do
      local line = assert(self:line())
      if line == "." then
         return lines, first
      end
      lines[#lines + 1] = line:gsub("^%.", "")
   end
end

--- A message as it was sent: undotted, with CRLF line ends.
function Client:fetch(id)
   local lines = self:multi("RETR " .. id)
   return table.concat(lines, "\r\n") .. "\r\n"
end

--- Logs in and returns the reply.
function Client:login(user, password)
   return self:say("USER " .. user, "PASS " .. password)
end

function Client:close()
   self.socket:close()
end

return program
