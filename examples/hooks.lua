-- Policy by hooks, round the Maildir back end:
--
--   * greylisting: an address that was never seen is told to come back later;
--     machines that only try passwords do not;
--   * what users delete goes to a trash directory instead of away;
--   * a command of our own, XTRASH, lists what is in there.
--
--     popd-lua examples/hooks.lua ROOT USERS [PORT [SECONDS]]
--
-- ROOT holds a Maildir for each mbox; trash is ROOT/<mbox>/Trash.
local popd = require("popd")
local maildir = require("popd.maildir")
local passwd = require("popd.passwd")
local fs = popd.fs

local root, users = arg[1], arg[2]
local port, patience = math.tointeger(tonumber(arg[3] or 1110)), tonumber(arg[4] or 30)
if not root or not users or not port or not patience then
   io.stderr:write("usage: popd-lua examples/hooks.lua ROOT USERS [PORT [SECONDS]]\n")
   os.exit(2)
end

-- Greylisting: when each address came first.  A real site would forget old ones
-- less crudely.
local first_seen, count, MOST = {}, 0, 100000

local function known_for(address)
   if count == MOST then
      first_seen, count = {}, 0
   end
   if not first_seen[address] then
      first_seen[address], count = os.time(), count + 1
   end
   return os.time() - first_seen[address]
end

local function connect(conn)
   if known_for(conn.remotehost) < patience then
      return false, "your address is new here; please come back in a minute", "SYS/TEMP"
   end
end

-- Deleting: a second name in the trash first, then the back end's own deletion,
-- so that whatever fails in between, the message has a name.
local storage = maildir.new { root = root .. "/%s" }
local remove = storage.dele

local function trash_of(mbox)
   return root .. "/" .. mbox .. "/Trash"
end

local function keep(mbox, id)
   local message = storage.get(mbox, id)
   if not message then
      return true -- another program was faster
   end
   local name = message.path:match("[^/]+$")
   local ok, err, code = fs.link(message.path, trash_of(mbox) .. "/" .. name)
   return ok or code == "EEXIST", err
end

function storage.dele(mbox, ids)
   fs.mkdir(trash_of(mbox)) -- there already: fine; what else is wrong, link tells
   for _, id in ipairs(ids) do
      local ok, err = keep(mbox, id)
      if not ok then
         return nil, err, ids
      end
   end
   return remove(mbox, ids)
end

-- XTRASH: a multi-line reply, as LIST's.
local function list_trash(conn)
   local names, err, code = fs.scandir(trash_of(conn.storage))
   if not names and code ~= "ENOENT" then
      error(err)
   end
   table.sort(names or {})
   return ("%d messages in the trash"):format(#(names or {})), table.concat(names or {}, "\n")
end

popd.new("hooks", {
   port = port,
   auth = assert(passwd.new { file = users }),
   storage = storage,
   on = { connect = connect },
   commands = { XTRASH = { run = list_trash, capa = "XTRASH" } },
}):up()
popd.run()
