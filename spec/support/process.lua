--- The program under test as a process of its own, and other programs that run
-- to their end.
local files = require("spec.support.files")
local socket = require("socket")

local process = {}

-- Seconds after which whatever still runs is ended, so that the spec fails.
local SAFETY = 240

local PREFIX = "env -u LD_PRELOAD "

--- The path of popd-lua.
function process.program()
   return os.getenv("POPD_LUA") or "build/popd-lua"
end

--- Whether a process has ended, also where nobody has asked for its status yet.
-- @tparam integer|string pid
function process.is_over(pid)
   local file = io.open(("/proc/%s/stat"):format(pid))
   local stat = file and file:read("a") or ""
   if file then
      file:close()
   end
   return stat == "" or stat:find("%) [ZX]") ~= nil
end

--- A command of words for the shell.
-- @tparam table words
function process.command_line(words)
   local quoted = {}
   for i, word in ipairs(words) do
      quoted[i] = files.quote(tostring(word))
   end
   return table.concat(quoted, " ")
end

--- A port of 127.0.0.1 on which nobody listens.
function process.free_port()
   local listening = assert(socket.bind("127.0.0.1", 0))
   local _, port = listening:getsockname()
   listening:close()
   return math.tointeger(tonumber(port))
end

--- Whether a program is installed.
function process.has(name)
   return (os.execute("command -v " .. files.quote(name) .. " >/dev/null 2>&1"))
end

--- Runs a command to its end.
-- @tparam table words the command
-- @tparam[opt] table options `home`: its HOME and working directory
-- @treturn boolean whether it ended with status 0
-- @treturn string what it wrote, errors and all
function process.run(words, options)
   local home = options and options.home
   local line = PREFIX .. ("timeout %d %s </dev/null 2>&1"):format(SAFETY, process.command_line(words))
   if home then
      line = ("cd %s && export HOME=$PWD && %s"):format(files.quote(home), line)
   end
   local pipe = assert(io.popen(line))
   local text = pipe:read("a")
   return pipe:close() == true, text
end

local Process = {}
Process.__index = Process

--- Starts popd-lua.
-- @tparam table arguments
-- @tparam[opt] table options `descriptors`: how many it may have open; `preload`:
-- a library that comes before libc; `environment`: further variables, `NAME=value`
-- @return a process with `pid`; its log is kept in a file, so that it never
-- waits for a reader
function process.start(arguments, options)
   local limit = options and options.descriptors and ("ulimit -n %d; "):format(options.descriptors) or ""
   local before = { "env", options and options.preload and "LD_PRELOAD=" .. options.preload or nil }
   for _, variable in ipairs(options and options.environment or {}) do
      before[#before + 1] = variable
   end
   local self = setmetatable({ log_file = os.tmpname() }, Process)
   -- tee keeps all that is said; what comes through the pipe are a few lines.
   local inner = ("%stimeout --foreground -k 5 %d sh -c 'echo pid $$; exec \"$@\"' sh %s %s </dev/null"):format(
      PREFIX, SAFETY, process.command_line(before) .. " " .. files.quote(process.program()),
      process.command_line(files.as_oneself()) .. " " .. process.command_line(arguments))
   self.pipe = assert(io.popen(limit .. ("{ %s; echo status $?; } 2>&1 | tee %s | grep --line-buffered -E %s"):format(
      inner, files.quote(self.log_file), files.quote("^pid [0-9]+$|^status [0-9]+$|^[^ ]+ info listening "))))
   self.pid = math.tointeger(assert(self:wait_for("^pid (%d+)$")))
   return self
end

--- Reads on until a line matches; raises at the process's end.
function Process:wait_for(pattern)
   for line in self.pipe:lines() do
      self.status = tonumber(line:match("^status (%d+)")) or self.status
      local found = line:match(pattern)
      if found then
         return found
      end
   end
   error(("the program ended before a line like '%s':\n%s"):format(pattern, self:log()), 2)
end

--- The port that it listens on, as its log tells.
function Process:wait_port()
   self.port = math.tointeger(self:wait_for(" listening .*port=(%d+)"))
   return self.port
end

--- All that it wrote.
function Process:log()
   return files.text(self.log_file)
end

--- The most memory that it ever used, in KiB; nil where that cannot be told.
function Process:peak_memory()
   local ok, status = pcall(files.text, ("/proc/%d/status"):format(self.pid))
   return ok and tonumber(status:match("VmHWM:%s*(%d+) kB")) or nil
end

--- Whether a sanitizer is built into it, which has memory of its own.
function Process:is_instrumented()
   local ok, maps = pcall(files.text, ("/proc/%d/maps"):format(self.pid))
   return ok and maps:find("lib%l+san%.so") ~= nil
end

function Process:signal(name)
   os.execute(("kill -%s %d 2>/dev/null"):format(name, self.pid))
end

--- Waits for its end and returns its status; 128 and more: a signal ended it.
function Process:ended()
   if self.pipe then
      if not self.status then
         pcall(self.wait_for, self, "^status (%d+)$")
      end
      self.pipe:close()
      self.pipe = nil
   end
   return self.status
end

--- Ends it by a signal, by default two of TERM, which close its connections.
-- @treturn integer status
-- @treturn string its log
function Process:stop(signal)
   local status, log = self.status, ""
   if self.log_file then
      self:signal(signal or "TERM")
      if not signal then
         self:signal("TERM")
      end
      status, log = self:ended(), self:log()
      os.remove(self.log_file)
      self.log_file = nil
   end
   return status, log
end

--- Serves Maildirs by flags alone: the user joe with the password secret, whose
-- mail is in `root`/joe.
function process.serve_maildir(root)
   files.put(root .. "/users", "joe:{PLAIN}secret:joe\n")
   local self = process.start {
      "--maildir", root, "--users", root .. "/users", "--address", "127.0.0.1", "--port", "0",
   }
   self:wait_port()
   return self
end

return process
