-- More policy by hooks, round the Maildir back end:
--
--   * some users may come only every so often (LOGIN-DELAY, RFC 2449), and CAPA
--     tells them how often;
--   * messages that a virus scanner has marked go out with a header field more,
--     which is nowhere in the file: sizes and unique-ids fit what is sent.
--
--     popd-lua examples/policy.lua ROOT USERS [PORT [USER=SECONDS ...]]
--
-- ROOT holds a Maildir for each mbox.  What is marked stands in ROOT/<mbox>/quarantine:
-- a line for each message, its file's name up to the colon.
local popd = require("popd")
local maildir = require("popd.maildir")
local passwd = require("popd.passwd")
local fs = popd.fs

local root, users, port = arg[1], arg[2], math.tointeger(tonumber(arg[3] or 1110))
if not root or not users or not port then
   io.stderr:write("usage: popd-lua examples/policy.lua ROOT USERS [PORT [USER=SECONDS ...]]\n")
   os.exit(2)
end

-- Delays ------------------------------------------------------------------------

local delays, longest = {}, 0
for i = 4, #arg do
   local name, seconds = arg[i]:match("^(.+)=(%d+)$")
   delays[name] = assert(tonumber(seconds), "USER=SECONDS expected, got " .. arg[i])
   longest = math.max(longest, delays[name])
end

local left = {} -- when each of them went

local hooks = {}

function hooks.login(_, name)
   local delay, last = delays[name], left[name]
   if delay and last and os.time() - last < delay then
      return false, ("come back in %d seconds"):format(delay - (os.time() - last)), "LOGIN-DELAY"
   end
end

function hooks.disconnect(conn)
   if conn.logon ~= "" and delays[conn.name] then
      left[conn.name] = os.time()
   end
end

-- Before the login nobody knows whose delay it is: the longest, marked USER.
function hooks.capa(conn, lines)
   if conn.state == "auth" and longest > 0 then
      lines[#lines + 1] = ("LOGIN-DELAY %d USER"):format(longest)
   elseif delays[conn.name] then
      lines[#lines + 1] = ("LOGIN-DELAY %d"):format(delays[conn.name])
   end
end

-- Quarantine ----------------------------------------------------------------------

local FIELD = "X-Quarantine: a scanner has marked this message\r\n"

local files = maildir.new { root = root .. "/%s" }
local storage = { unlock = files.unlock, stat = files.stat, uidl = files.uidl, dele = files.dele }

-- The marks are read once, at the login: sizes must not change within a session.
local function read_marks(mbox)
   local marks = {}
   local text, err, code = fs.read(root .. "/" .. mbox .. "/quarantine", 1048576)
   if not text and code ~= "ENOENT" then
      error(err)
   end
   for name in (text or ""):gmatch("[^\n]+") do
      marks[name] = true
   end
   return marks
end

function storage.lock(mbox, conn)
   conn.data.marks = read_marks(mbox)
   return files.lock(mbox, conn)
end

local function is_marked(mbox, id, conn)
   return conn.data.marks[files.uidl(mbox, id)]
end

-- The file's octets behind the field.
local function with_field(path)
   local head, file = FIELD, assert(io.open(path, "rb"))
   return {
      read = function(_, n)
         if not head then
            return file:read(n)
         end
         local first = head
         head = nil
         return first
      end,
      close = function()
         file:close()
      end,
   }
end

function storage.get(mbox, id, conn)
   local message = files.get(mbox, id)
   if message and is_marked(mbox, id, conn) then
      return with_field(message.path)
   end
   return message
end

function storage.size(mbox, id, conn)
   if id then
      return files.size(mbox, id) + (is_marked(mbox, id, conn) and #FIELD or 0)
   end
   local sum = 0
   for i = 1, files.stat(mbox) do
      sum = sum + storage.size(mbox, i, conn)
   end
   return sum
end

popd.new("policy", {
   port = port,
   auth = assert(passwd.new { file = users }),
   storage = storage,
   on = hooks,
}):up()
popd.run()
