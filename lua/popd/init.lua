--- A POP3 server whose storage, login and policy are Lua functions.
--
-- Functions here that wait (`sleep`, `wait`) pause the callback that calls
-- them; the server and the other callbacks go on.  In a script's main chunk
-- they simply block.  Times are seconds, sizes octets.
-- @module popd
-- @usage
-- local popd = require "popd"
-- local server = popd.new { port = 1110, auth = auth, storage = storage }
-- server:up()
-- popd.run()
local core = require("popd.core")
require("popd.carry")
local faults = require("popd.faults")
local handle = require("popd.handle")
local server = require("popd.server")

local popd = {}

--- This version.
popd.VERSION = core.version

--- The file system, as back ends need it.
-- @see popd.fs
popd.fs = require("popd.fs")

--- Stored passwords: verified and made.
-- @see popd.scheme
popd.scheme = require("popd.scheme")

--- Client sockets that never block, with LuaSocket's interface.
-- @see popd.socket
popd.socket = require("popd.socket")

--- Makes an HTTP request and waits for its answer.
-- @function http
-- @string url
-- @tparam[opt] table options
-- @treturn table `{ status =, headers =, body = }`, or nil and the reason
-- @see popd.http
popd.http = require("popd.http")

--- Makes a pool of clients that callbacks share.
-- @function pool
-- @tparam table options `open`, `close`, `max`, `idle`
-- @treturn pool `pool:with(function(client) … end)`
-- @see popd.share
popd.pool = require("popd.share").pool

--- Makes a mutex.
-- @function mutex
-- @treturn mutex `mutex:with(f, …)`
-- @see popd.share
popd.mutex = require("popd.share").mutex

--- Loads a library, written for LuaSocket, on popd's sockets.
-- @function require
-- @string name
-- @return the library
-- @see popd.library
popd.require = require("popd.library").require

--- What opens listening sockets.
-- @see popd.listen
popd.listen = require("popd.listen")

--- Makes a server.
-- @function new
-- @string[opt] name `pop3d1`, `pop3d2`, … where absent; one in use raises
-- @tparam[opt] table options see `popd.options`
-- @treturn server a server that is down
popd.new = server.new

--- Makes a server that needs no network, and a client of it: for specs.
-- @function mock
-- @tparam[opt] table options as for `new`
-- @return see `popd.mock`
popd.mock = require("popd.mock").new

--- Checks a storage by real sessions.
-- @function check
-- @param storage as the option takes it
-- @tparam table options see `popd.check`
-- @treturn boolean true, or nil
-- @treturn table the report: an array of `{ rule =, call =, got = }`
popd.check = require("popd.check").run

--- Finds a server by its name.
-- @function server
-- @string name
-- @return the server, or nil
popd.server = server.find

--- Runs the loop until `stop` is called or nothing is left to wait for: no
-- server up, no connection, no timer.  Inside a callback it raises.
-- @function run
popd.run = core.run

--- Ends `run`, after the callbacks that are due now.
-- @function stop
popd.stop = core.stop

--- One turn of the loop.
-- @function step
-- @number[opt] timeout seconds to wait at most; absent: until something happens
-- @treturn boolean whether anything is left to wait for
popd.step = core.step

--- A descriptor that is readable when `step(0)` has something to do, for living
-- inside another loop.
-- @function fd
-- @treturn integer or nil and the reason
popd.fd = core.fd

--- Waits.
-- @function sleep
-- @number seconds
-- @treturn boolean true
popd.sleep = core.sleep

--- Waits until a descriptor can be read from or written to.
-- @tparam integer|table fd a number, or an object with `getfd`
-- @string mode `"r"` or `"w"`
-- @number[opt] timeout seconds
-- @treturn boolean true, or nil and `"timeout"`
function popd.wait(fd, mode, timeout)
   if type(fd) ~= "number" then
      local ok, number = pcall(function()
         return fd:getfd()
      end)
      if not ok then
         error("popd.wait: a descriptor, or an object with getfd, expected", 2)
      end
      fd = number
   end
   return core.wait(fd, mode, timeout)
end

--- Runs a function beside everything else, from the loop's next turn on.  It
-- may wait; what it raises is logged.
-- @function spawn
-- @func f
-- @param ... its arguments
-- @return a handle; `handle:cancel()` ends it where it waits
popd.spawn = core.spawn

local function check_delay(what, seconds, f)
   if type(seconds) ~= "number" or not (seconds >= 0 and seconds <= 1e9) then
      error(("popd.%s: seconds from 0 to 1e9 expected"):format(what), 3)
   elseif type(f) ~= "function" then
      error(("popd.%s: a function expected"):format(what), 3)
   end
end

--- Runs a function once, later.
-- @number seconds
-- @func f
-- @return a handle with `cancel`
function popd.after(seconds, f)
   check_delay("after", seconds, f)
   return core.spawn(function()
      core.sleep(seconds)
      f()
   end)
end

local function traceback(err)
   if err == "cancelled" or type(err) == "string" and err:find(": cancelled$") then
      return nil
   end
   return debug.traceback(faults.show(err), 2)
end

--- Runs a function again and again.  A run that takes longer than the interval
-- delays the next one: runs never overlap.  One that raises is logged, and the
-- next comes all the same.
-- @number seconds between the starts of two runs
-- @func f
-- @return a handle with `cancel`
function popd.every(seconds, f)
   check_delay("every", seconds, f)
   if seconds == 0 then
      error("popd.every: seconds above 0 expected", 2)
   end
   local due, cancelled = core.now(), false
   local job = core.job(function()
      while not cancelled do
         local now = core.now()
         due = math.max(due + seconds, now)
         core.sleep(due - now)
         local ok, err = core.guard(f, traceback)
         if not ok and err then
            faults.report("a function of popd.every failed", nil, err)
         end
      end
   end)
   return {
      cancel = function()
         cancelled = true
         job:cancel()
      end,
   }
end

--- Has threads call a module's functions, for drivers that block.
-- @see popd.thread
-- @function thread
-- @string module
-- @tparam[opt] table options `threads`, `queue`
-- @treturn table its functions, each of which waits for its result
popd.thread = require("popd.thread").new

--- Caps what this Lua state may allocate.  A callback that needs more, garbage
-- not counted, is stopped where it is, and its session ends; the core's own work
-- never fails for the cap.
-- @function memory_limit
-- @tparam[opt] integer|boolean octets more than are in use; `false` takes the cap
-- away; absent: nothing changes
-- @treturn integer octets in use, with what is garbage and not collected yet
-- @raise where less than what is in use is asked for
-- @usage popd.memory_limit(256 * 1024 * 1024)
popd.memory_limit = core.memory_limit

--- Writes one line to the log.
-- @function log
-- @string level `"debug"`, `"info"`, `"warning"` or `"error"`
-- @string text
-- @tparam[opt] table fields names and values; octets that could forge a line are escaped
popd.log = core.log

--- Says where the log goes and from which level on.  At first warnings and
-- errors go to standard error (in the program `popd-lua`: also `"info"`).
-- @function log_to
-- @func[opt] sink called with level and line; nil: standard error
-- @string[opt] least `"debug"`, `"info"`, `"warning"`, `"error"` or `"none"`
popd.log_to = core.log_to

--- Counts the octets of a message as POP3 sends them: CRLF line ends, before
-- dot-stuffing.  Reads the handle to its end; may wait.
-- @function octets
-- @param handle any message handle
-- @treturn integer or nil and the reason
popd.octets = handle.octets

return popd
