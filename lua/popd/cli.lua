--- The program `popd-lua`: flags, signals, scripts.
-- @module popd.cli
local core = require("popd.core")
local popd = require("popd")
local server = require("popd.server")

local cli = {}

local usage = [==[
usage: popd-lua [options] [script.lua [arguments]]
       popd-lua [options] --maildir DIR --users FILE

Runs a script that sets up POP3 servers, or serves Maildirs by flags alone.

  --maildir DIR      serve DIR/<mbox> for each user; in DIR, %s stands for the
                     mbox, %n and %d for its parts around the '@'
  --users FILE       who may log in: lines of name:password:mbox
  --port N           listen on that port (default 110; 0: the system chooses)
  --address A        listen on that address only (default: all)
  --plain-login W    when passwords may come unencrypted: always, local, tls
                     (default local: from this machine only)
  --log LEVEL        debug, info, warning, error or none (default info)
  -e CODE            run this Lua code in place of a script
  --help, --version

SIGINT and SIGTERM let open sessions end; a second one ends at once.
]==]

-- Flags that take a value, and the key of it.
local valued = {
   ["--maildir"] = "maildir", ["--users"] = "users", ["--port"] = "port", ["--address"] = "address",
   ["--plain-login"] = "plain_login", ["--log"] = "log", ["-e"] = "code",
}

local function fail(text)
   io.stderr:write("popd-lua: ", text, "\nTry 'popd-lua --help'.\n")
   return 2
end

-- Flags up to the script; nil and a text where they are wrong.
local function parse(arg)
   local flags, i = {}, 1
   while arg[i] and arg[i]:find("^%-.") do
      local flag, value = arg[i]:match("^(%-%-[^=]+)=(.*)$")
      flag = flag or arg[i]
      if flag == "--" then
         i = i + 1
         break
      elseif flag == "--help" or flag == "-h" or flag == "--version" then
         flags[flag == "--version" and "version" or "help"] = true
      elseif valued[flag] then
         if not value then
            i = i + 1
            value = arg[i]
         end
         if not value then
            return nil, flag .. " needs a value"
         end
         flags[valued[flag]] = value
      else
         return nil, "unknown option " .. flag
      end
      i = i + 1
   end
   flags.rest = i
   return flags
end

local maildir_flags = { users = "--users", port = "--port", address = "--address", plain_login = "--plain-login" }

-- What is wrong with the flags beside each other and a script, or nil.
local function check_together(flags, script)
   if flags.maildir then
      return (script or flags.code) and "--maildir serves by flags alone; it takes no script and no -e"
         or not flags.users and "--maildir needs --users FILE" or nil
   end
   for key, flag in pairs(maildir_flags) do
      if flags[key] then
         return flag .. " goes with --maildir; a script sets its own options"
      end
   end
end

-- What a script sees as `arg`: itself at 0, its arguments behind, popd-lua before.
local function shift(arg, first)
   local shifted = {}
   for i = 0, #arg do
      shifted[i - first] = arg[i]
   end
   return shifted
end

-- An error's text without the place in our own code where it was raised.
local function plain(err)
   return (tostring(err):gsub("^[%w%._/-]+:%d+: ", ""))
end

-- The server that the flags describe; raises where a flag's value is wrong.
local function make_site(flags, auth)
   local root = flags.maildir:find("%%[snd]") and flags.maildir or flags.maildir .. "/%s"
   return popd.new("popd-lua", {
      auth = auth,
      storage = require("popd.maildir").new { root = root },
      address = flags.address,
      port = math.tointeger(tonumber(flags.port or 110)) or flags.port,
      plain_login = flags.plain_login,
   })
end

local function load_chunk(arg, flags)
   if flags.code then
      return load(flags.code, "=(-e)")
   end
   return loadfile(arg[flags.rest])
end

-- The first signal drains; the core sees to it that a second one ends.
local function watch_signals()
   local draining = false
   for name, number in pairs { INT = 2, TERM = 15 } do
      core.signal(number, function()
         if draining then
            os.exit(128 + number)
         end
         draining = true
         server.drain(core.stop)
         core.log("info", "ending once open sessions have ended; a second signal ends at once", { signal = name })
      end)
   end
end

local function traceback(err)
   return debug.traceback(type(err) == "string" and err or tostring(err), 2)
end

local function run_script(arg, flags)
   local chunk, err = load_chunk(arg, flags)
   if not chunk then
      io.stderr:write("popd-lua: ", err, "\n")
      return 1
   end
   local ran = false
   popd.run = function()
      ran = true
      return core.run()
   end
   local arguments = shift(arg, flags.code and flags.rest - 1 or flags.rest)
   _G.arg = arguments -- luacheck: ignore
   local ok, why = xpcall(chunk, traceback, table.unpack(arguments))
   if not ok then
      io.stderr:write("popd-lua: ", why, "\n")
      return 1
   end
   if not ran then
      core.run()
   end
   return 0
end

local function serve(flags)
   local auth, err = require("popd.passwd").new { file = flags.users }
   local ok, site = pcall(make_site, flags, auth)
   if not ok then
      return fail(plain(site))
   end
   if not auth then
      io.stderr:write("popd-lua: --users: ", err, "\n")
      return 1
   end
   ok, err = pcall(site.up, site)
   if not ok then
      io.stderr:write("popd-lua: ", plain(err), "\n")
      return 1
   end
   core.run()
   return 0
end

--- Runs the program.
-- @tparam table arg as Lua's own: the program at 0
-- @treturn integer the status to exit with
function cli.main(arg)
   local flags, wrong = parse(arg)
   if not flags then
      return fail(wrong)
   elseif flags.help then
      io.write(usage)
      return 0
   elseif flags.version then
      io.write("popd-lua ", popd.VERSION, " (", _VERSION, ")\n")
      return 0
   end
   if not pcall(popd.log_to, nil, flags.log or "info") then
      return fail("--log: '" .. flags.log .. "' is none of debug, info, warning, error, none")
   end
   if not (flags.maildir or flags.code or arg[flags.rest]) then
      io.stderr:write(usage)
      return 2
   end
   wrong = check_together(flags, arg[flags.rest])
   if wrong then
      return fail(wrong)
   end
   watch_signals()
   if flags.maildir then
      return serve(flags)
   end
   return run_script(arg, flags)
end

return cli
