--- The program `popd-lua`: flags, signals, scripts.
-- @module popd.cli
local core = require("popd.core")
local flags_of = require("popd.flags")
local popd = require("popd")
local privilege = require("popd.privilege")
local server = require("popd.server")

local cli = {}

local usage = [==[
usage: popd-lua [options] [script.lua [arguments]]
       popd-lua [options] --maildir DIR --users FILE
       popd-lua cert [--out DIR | --cert FILE --key FILE] [--days N] [--force] HOST...
       popd-lua passwd [--scheme S] [--file FILE | --store sqlite:FILE [--user NAME]] NAME [MBOX]
       popd-lua check [--log LEVEL] store.lua [arguments]
       popd-lua deliver --store STORE [--user NAME] [--from A] [--delivered-to A] MBOX <message
       popd-lua import|export --store sqlite:FILE [--user NAME] [--uidl STYLE] NAME MAILDIR

Runs a script that sets up POP3 servers, or serves Maildirs by flags alone.
`cert` makes a key and a certificate for it, `passwd` an entry of the users' file, or
a user of an SQLite file; `check` tells what is wrong with the storage that a file
returns; `deliver` puts a message into a maildrop of a STORE, which is maildir:PATH,
mbox:PATH, dbox:DIR or sqlite:FILE; `import` takes a Maildir over into a user's mail in
an SQLite file, `export` does the reverse.

  --maildir DIR      serve DIR/<mbox> for each user; in DIR, %s stands for the
                     mbox, %n and %d for its parts around the '@'
  --dele HOW         what becomes of deleted messages: unlink (default), flag
                     (marked, and not shown any more), or a folder: .Trash
  --newest N         show the newest N messages of a Maildir only
  --uidl STYLE       unique-ids as another server told them: dovecot, cyrus,
                     courier; dovecot:FORMAT (default name: the file names)
  --users FILE       who may log in: lines of name:password:mbox
  --port N           listen on that port (default 110; 0: the system chooses)
  --address A        listen on that address only (default: all)
  --plain-login W    when passwords may come unencrypted: always, local, tls
                     (default local: from this machine only)
  --cert FILE        the certificate, with those between it and the authority,
  --key FILE         and its key (PEM): offers STLS
  --tls-port N       listen on that port too, encrypted from the start
  --user NAME        serve as that user; needed when started as root
  --log LEVEL        debug, info, warning, error or none (default info)
  -e CODE            run this Lua code in place of a script
  --help, --version

SIGINT and SIGTERM let open sessions end; a second one ends at once.  SIGHUP has
certificates and keys read again.
]==]

local known = {
   ["--maildir"] = "maildir", ["--dele"] = "dele", ["--newest"] = "newest", ["--uidl"] = "uidl",
   ["--users"] = "users", ["--port"] = "port", ["--address"] = "address",
   ["--plain-login"] = "plain_login", ["--cert"] = "cert", ["--key"] = "key", ["--tls-port"] = "tls_port",
   ["--user"] = "user", ["--log"] = "log", ["-e"] = "code",
   ["--help"] = { "help" }, ["-h"] = { "help" }, ["--version"] = { "version" },
}

-- The first word names them; a script of that name is run as `./cert`.
local commands = {
   cert = "popd.cert", check = "popd.checking", deliver = "popd.delivering", export = "popd.importing",
   import = "popd.importing", passwd = "popd.users",
}

local fail = flags_of.fail

local maildir_flags = {
   dele = "--dele", newest = "--newest", uidl = "--uidl",
   users = "--users", port = "--port", address = "--address", plain_login = "--plain-login", cert = "--cert",
   key = "--key", tls_port = "--tls-port",
}

local function number_of(text)
   return math.tointeger(tonumber(text))
end

local function wrong_port(flag, text)
   local port = number_of(text)
   if text and not (port and port >= 0 and port <= 65535) then
      return ("%s: a port from 0 to 65535 expected, got '%s'"):format(flag, text)
   end
end

-- What is wrong with the flags beside each other and a script, or nil.
local function check_together(flags, script)
   if flags.maildir then
      return (script or flags.code) and "--maildir serves by flags alone; it takes no script and no -e"
         or not flags.users and "--maildir needs --users FILE"
         or (flags.cert == nil) ~= (flags.key == nil) and "--cert and --key go together"
         or flags.tls_port and not flags.cert and "--tls-port needs --cert FILE and --key FILE"
         or wrong_port("--port", flags.port) or wrong_port("--tls-port", flags.tls_port)
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

-- What was raised; options of the Maildirs are flags here.
local function plain(err)
   return (flags_of.plain(err):gsub("^maildir%.new: option '(%l+)'", "--%1"):gsub("^uidl:", "--uidl:"))
end

-- The server that the flags describe; raises where a flag's value is wrong.
local function make_site(flags, auth)
   local root = flags.maildir:find("%%[snd]") and flags.maildir or flags.maildir .. "/%s"
   local site = popd.new("popd-lua", {
      auth = auth,
      storage = require("popd.maildir").new {
         root = root, dele = flags.dele, newest = flags.newest and (number_of(flags.newest) or 0), uidl = flags.uidl,
      },
      address = flags.address,
      port = number_of(flags.port or 110),
      plain_login = flags.plain_login,
      tls = flags.cert and { cert = flags.cert, key = flags.key } or nil,
   })
   if flags.tls_port then
      site:listen { port = number_of(flags.tls_port), address = flags.address, tls = "implicit" }
   end
   return site
end

local function load_chunk(arg, flags)
   if flags.code then
      return load(flags.code, "=(-e)")
   end
   return loadfile(arg[flags.rest])
end

-- The first signal drains; the core sees to it that a second one ends.  SIGHUP
-- may come as often as it likes.
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
   core.signal(1, server.reload_all, true)
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
   local ran, run = false, popd.run
   popd.run = function()
      ran = true
      return run()
   end
   local arguments = shift(arg, flags.code and flags.rest - 1 or flags.rest)
   _G.arg = arguments -- luacheck: ignore
   local ok, why = xpcall(chunk, traceback, table.unpack(arguments))
   if not ok then
      io.stderr:write("popd-lua: ", why, "\n")
      return 1
   end
   if not ran then
      run()
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
   popd.run()
   return 0
end

--- Runs the program.
-- @tparam table arg as Lua's own: the program at 0
-- @treturn integer the status to exit with
function cli.main(arg)
   if commands[arg[1]] and (arg[2] == "--help" or arg[2] == "-h") then
      io.write(usage)
      return 0
   elseif commands[arg[1]] then
      return require(commands[arg[1]]).main(table.move(arg, 2, #arg, 1, {}), arg[1])
   end
   local flags, wrong = flags_of.parse(arg, 1, known)
   if not flags then
      return fail(wrong)
   elseif flags.help then
      io.write(usage)
      return 0
   elseif flags.version then
      io.write("popd-lua ", popd.VERSION, " (", _VERSION, ", ", core.tls_library, ")\n")
      return 0
   end
   if not pcall(popd.log_to, nil, flags.log or "info") then
      return fail("--log: '" .. flags.log .. "' is none of debug, info, warning, error, none")
   end
   if not (flags.maildir or flags.code or arg[flags.rest]) then
      io.stderr:write(usage)
      return 2
   end
   wrong = check_together(flags, arg[flags.rest]) or privilege.check(flags.user, flags.maildir ~= nil)
   if wrong then
      return fail(wrong)
   end
   privilege.guard(popd, flags.user)
   watch_signals()
   if flags.maildir then
      return serve(flags)
   end
   return run_script(arg, flags)
end

return cli
