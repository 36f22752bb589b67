--- MTAs of the spec's own, unpacked below build by `make peers`, that hand all mail
-- for example.org to `popd-lua deliver` by the lines of the guide.
--
--     local mta = mta.start.postfix(dir, "maildir:/tmp/x/%d/%n")
--     mta:send("ann@example.org", "joe@example.org", message)
--     mta:outcome()   -- "sent", "deferred" or "bounced"
local client = require("spec.support.client")
local files = require("spec.support.files")
local fs = require("popd.fs")
local process = require("spec.support.process")
local program = require("spec.support.program")
local socket = require("socket")

local mta = { start = {} }

-- Where they are, and what is run there.
local TREES = {
   postfix = { "build/postfix", "usr/lib/postfix/sbin/master" },
   exim = { "build/exim", "usr/sbin/exim4" },
}

-- Users that no system needs to have: nss_wrapper shows them to the MTAs.
local USERS = { "postfix", "postdrop", "Debian-exim", "vmail" }
local FIRST_ID = 64001

--- Why there can be none here, or nil.
function mta.missing(name)
   local tree, main = table.unpack(TREES[name])
   if not os.execute(("test -x %s/%s"):format(tree, main)) then
      return name .. " is not unpacked (make peers)"
   end
   return #files.as_oneself() == 0 and "only root can start " .. name or nil
end

-- The blocks of the guide behind a word in italics, one after the other.
local function guide(word)
   local blocks, lines = {}, nil
   local section = files.text("docs/guide.md"):match("\n%*" .. word .. "%*.-\n\n(.-)\n%f[%*#]")
   for line in (section .. "\n\n"):gmatch("([^\n]*)\n") do
      if line:find("^    ") then
         lines = lines or {}
         lines[#lines + 1] = line:sub(5)
      elseif lines then
         blocks[#blocks + 1] = table.concat(lines, "\n") .. "\n"
         lines = nil
      end
   end
   return blocks
end

-- Puts the spec's paths for those of the guide; each of them is there.
local function localized(text, paths)
   for path, own in pairs(paths) do
      local from, to = text:find(path, 1, true)
      text = assert(from, path .. " is not in the guide") and text:sub(1, from - 1) .. own .. text:sub(to + 1)
   end
   return text
end

-- What both need: the program where anybody may run it, users, a mail directory.
local function prepare(dir)
   files.run("chmod 755 %s && cp %s %s && mkdir -p %s", dir, program.path(), dir .. "/popd-lua", dir .. "/mail")
   local passwd = { "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n" }
   local group = { "root:x:0:\nnogroup:x:65534:\n" }
   for n, name in ipairs(USERS) do
      local id = FIRST_ID + n
      passwd[n + 1] = ("%s:x:%d:%d::/nonexistent:/bin/false\n"):format(name, id, id)
      group[n + 1] = ("%s:x:%d:\n"):format(name, id)
   end
   files.put(dir .. "/passwd", table.concat(passwd))
   files.put(dir .. "/group", table.concat(group))
   mta.own("vmail", dir .. "/mail")
end

--- Gives files to a user of the MTAs.
function mta.own(user, ...)
   for n, name in ipairs(USERS) do
      if name == user then
         files.run("chown -R " .. FIRST_ID + n .. ":" .. FIRST_ID + n .. (" %s"):rep(select("#", ...)), ...)
      end
   end
end

-- Words before a command, so that it runs from its tree and sees those users.
local function environment(tree, dir)
   local libraries = files.first_line(("echo %s/usr/lib/*-linux-* %s/lib/*-linux-*"):format(tree, tree))
   local usr, lib = libraries:match("(%S+) (%S+)")
   return {
      "env", "LD_PRELOAD=" .. usr .. "/libnss_wrapper.so",
      ("LD_LIBRARY_PATH=%s:%s:%s/usr/lib/postfix"):format(usr, lib, tree),
      "NSS_WRAPPER_PASSWD=" .. dir .. "/passwd", "NSS_WRAPPER_GROUP=" .. dir .. "/group",
   }
end

local KEPT = { "LD_PRELOAD", "LD_LIBRARY_PATH", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP" }

local function started(class, name, dir)
   prepare(dir)
   local tree = files.absolute(TREES[name][1])
   return setmetatable({ dir = dir, tree = tree, port = process.free_port(), before = environment(tree, dir) }, class)
end

-- The command of its tree, behind those words.
local function command(self, path)
   local words = table.move(self.before, 1, #self.before, 1, {})
   words[#words + 1] = self.tree .. "/" .. path
   return words
end

-- Both ------------------------------------------------------------------------

local Both = {}

--- Sends a message by SMTP; its lines end with CRLF.
function Both:send(from, to, message)
   local c = program.connect(self.port)
   for _, step in ipairs {
      { "HELO client.example.net", "^250 " }, { ("MAIL FROM:<%s>"):format(from), "^250 " },
      { ("RCPT TO:<%s>"):format(to), "^250 " }, { "DATA", "^354 " },
      { ("\n" .. message):gsub("\n%.", "\n.."):sub(2) .. ".", "^250 " }, { "QUIT", "^221 " },
   } do
      local reply = c:say(step[1])
      assert(reply and reply:find(step[2]), reply)
   end
   c:close()
end

--- Ends it, if it has not ended, and waits for that.
function Both:stop()
   os.execute(("kill -TERM %d 2>/dev/null"):format(self.process.pid))
   self.process:ended()
end

-- Waits until it listens; else ends it, and raises what it said.
local function wait_port(self)
   local ok, why = pcall(client.wait_for, "the MTA to listen", function()
      local sock = socket.connect("127.0.0.1", self.port)
      return sock and sock:close()
   end)
   if not ok then
      self:stop()
      error(why .. "\n" .. table.concat(self.process.said, "\n"), 0)
   end
end

-- Postfix ---------------------------------------------------------------------

local Postfix = setmetatable({}, { __index = Both })
Postfix.__index = Postfix

local MAIN = [[
compatibility_level = 3.6
queue_directory = %s/queue
data_directory = %s/data
daemon_directory = %s/usr/lib/postfix/sbin
command_directory = %s/usr/sbin
shlib_directory = %s/usr/lib/postfix
meta_directory = %s/etc
maillog_file = /dev/stdout
import_environment = MAIL_CONFIG POSTLOG_SERVICE POSTLOG_HOSTNAME LANG=C %s
export_environment = LANG
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
hash_queue_names = hold
local_recipient_maps =
alias_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_maps = static:all
]]

local MASTER = [[
127.0.0.1:%d inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
]]

local QUEUES = {
   "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace",
}

-- Directories as Postfix's own set-up makes them.
local function make_queue(dir)
   local paths = {}
   for i, name in ipairs(QUEUES) do
      paths[i] = dir .. "/queue/" .. name
   end
   files.run("mkdir -p %s %s %s %s %s" .. (" %s"):rep(#paths), dir .. "/etc", dir .. "/data", dir .. "/queue/pid",
      dir .. "/queue/public", dir .. "/queue/maildrop", table.unpack(paths))
   mta.own("postfix", dir .. "/data", dir .. "/queue/public", dir .. "/queue/maildrop", table.unpack(paths))
   files.run("cd %s && chmod 700 data && chmod 710 queue/public && chmod 730 queue/maildrop", dir)
end

--- Starts Postfix.
-- @string dir a directory of its own
-- @string store what `popd-lua deliver` is to deliver into
function mta.start.postfix(dir, store)
   local self = started(Postfix, "postfix", dir)
   local main, master = table.unpack(guide("Postfix"))
   make_queue(dir)
   files.put(dir .. "/etc/main.cf", MAIN:format(dir, dir, self.tree, self.tree, self.tree, dir,
      table.concat(KEPT, " ")) .. main)
   files.put(dir .. "/etc/master.cf", MASTER:format(self.port) .. localized(master, {
      ["/usr/local/bin/popd-lua"] = dir .. "/popd-lua", ["maildir:/var/vmail/%d/%n"] = store,
   }))
   table.insert(self.before, "MAIL_CONFIG=" .. dir .. "/etc")
   self.process = program.start(command(self, TREES.postfix[2]), "-s", "-c", dir .. "/etc")
   wait_port(self)
   return self
end

--- What becomes of a message: the next that its log says.
function Postfix:outcome()
   return (self.process:wait_for("/pipe%[%d+%]: .* status=(%a+)"))
end

--- How many messages wait for a further try, once none is being tried.
function Postfix:waiting()
   client.wait_for("what failed to be put aside", function()
      return #fs.scandir(self.dir .. "/queue/active") == 0
   end)
   return #fs.scandir(self.dir .. "/queue/deferred")
end

--- Tries again, as an administrator has it do.
function Postfix:retry()
   local status, out, err = program.run(command(self, "usr/sbin/postqueue"), "-c", self.dir .. "/etc", "-f")
   assert(status == 0, out .. err)
end

-- Exim ------------------------------------------------------------------------

local Exim = setmetatable({}, { __index = Both })
Exim.__index = Exim

local CONFIG = [[
exim_path = %s/usr/sbin/exim4
spool_directory = %s/spool
log_file_path = %s/log/%%slog
pid_file_path = %s/spool/pid
primary_hostname = mx.example.org
local_interfaces = 127.0.0.1
daemon_smtp_ports = %d
tls_advertise_hosts =
keep_environment = %s
domainlist local_domains = example.org
acl_smtp_rcpt = accept
acl_smtp_data = accept
queue_only
begin retry
* * F,1h,1m
begin routers
%s
begin transports
%s
]]

--- Starts Exim.  It keeps what it takes until its queue is run.
-- @string dir a directory of its own
-- @string store what `popd-lua deliver` is to deliver into
-- @tparam table names local parts of example.org
function mta.start.exim(dir, store, names)
   local self = started(Exim, "exim", dir)
   local router, transport = table.unpack(guide("Exim"))
   files.run("mkdir %s %s", dir .. "/spool", dir .. "/log")
   mta.own("Debian-exim", dir .. "/spool", dir .. "/log")
   files.put(dir .. "/maildrops", table.concat(names, "\n") .. "\n")
   self.config = files.put(dir .. "/exim.conf", CONFIG:format(self.tree, dir, dir, dir, self.port,
      table.concat(KEPT, " : "),
      localized(router, { ["/etc/exim4/maildrops"] = dir .. "/maildrops" }),
      localized(transport, {
         ["/usr/local/bin/popd-lua"] = dir .. "/popd-lua", ["maildir:/var/vmail/%d/%n"] = store,
      })))
   self.process = program.start(command(self, TREES.exim[2]), "-C", self.config, "-bdf")
   wait_port(self)
   return self
end

-- How its log tells what became of a message.
local MARKS = { ["=>"] = "sent", ["=="] = "deferred", ["**"] = "bounced" }

--- What becomes of a message: runs the queue.
function Exim:outcome()
   local path = self.dir .. "/log/mainlog"
   local before = #files.text(path)
   local status, out, err = program.run(command(self, TREES.exim[2]), "-C", self.config, "-qf")
   assert(status == 0, out .. err)
   local said = files.text(path):sub(before + 1)
   return MARKS[said:match("\n%S+ %S+ %S+ ([=*][=>*]) ")] or error(said)
end

--- How many messages wait for a further try.
function Exim:waiting()
   local _, out = program.run(command(self, TREES.exim[2]), "-C", self.config, "-bpc")
   return tonumber(out)
end

--- Tries again: `outcome` does.
function Exim.retry() end

return mta
