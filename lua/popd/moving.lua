--- Maildirs that are taken over into a store, and stores that become Maildirs.
--
-- Unique-ids stay: what `popd.maildir` shows for a Maildir, in the style that is
-- asked for, is what the store shows, and the other way round, so that clients fetch nothing twice.  What was done
-- is not done again: an import leaves out what came before, an export what is there.
-- @module popd.moving
-- @usage
-- local store = sqlite.new { file = "mail.db" }
-- print(moving.import(store, "joe", "/var/vmail/joe").moved)
local delivery = require("popd.delivery")
local fs = require("popd.fs")
local maildir = require("popd.maildir")
local roots = require("popd.root")

local moving = {}

-- So much goes into one transaction.
local MOST, MOST_OCTETS = 500, 8 * 1024 * 1024

local MBOX = "the Maildir" -- its root has no part for one

-- What a file's name tells: flags (nil in `new`), the time of delivery, and its
-- base where that is too long or too odd for a unique-id: it makes one of that.
local function describe(message, path)
   local sub, name = path:match("([^/]+)/([^/]+)$")
   local base, time = name:match("^[^:]*"), math.tointeger(tonumber(name:match("^%d+")))
   if not time or time >= 1 << 40 then
      local st = fs.stat(path)
      time = st and math.floor(st.mtime)
   end
   message.flags = sub == "cur" and (name:match(":2,(.*)$") or "") or nil
   message.time = time
   message.name = message.uid ~= base and message.uid == fs.sha256(base) and base or nil
   return message
end

-- A message's octets and path; another program may rename it meanwhile.  Nil:
-- it is gone, or why it cannot be read.
local function read(box, id)
   local err
   for _ = 1, 3 do
      local handle, why = box.get(MBOX, id)
      if not handle then
         return nil, why
      end
      local text, code
      text, err, code = fs.read(handle.path)
      if text or code ~= "ENOENT" then
         return text, text and handle.path or err
      end
   end
   return nil, err
end

-- Whether the message that is known by a unique-id can be told to be another one: the
-- second Maildir of a user may have the same names.
local function is_other(there, box, id)
   if math.type(there) ~= "integer" then
      return false
   end
   local octets = box.size(MBOX, id) -- 0, too, where it is gone or cannot be read
   return octets > 0 and octets ~= there
end

local function take_all(store, user, box, known)
   local count, batch, octets = { moved = 0, known = 0, failed = {} }, {}, 0
   local function flush()
      local added, err = store.import(user, batch)
      if not added then
         return nil, err
      end
      count.moved, batch, octets = count.moved + added, {}, 0
      return true
   end
   local _, uids = box.scan(MBOX)
   for id, uid in ipairs(uids) do
      if is_other(known[uid], box, id) then
         table.insert(count.failed, uid .. ": another message of this user has that unique-id")
      elseif known[uid] then
         count.known = count.known + 1
      else
         local text, path = read(box, id)
         if text then
            batch[#batch + 1], octets = describe({ message = text, uid = uid }, path), octets + #text
         elseif path then
            table.insert(count.failed, path)
         end
      end
      if #batch >= MOST or octets >= MOST_OCTETS then
         local ok, err = flush()
         if not ok then
            return nil, err
         end
      end
   end
   local ok, err = flush()
   return ok and count, err
end

--- Takes a Maildir's messages over into a store: octets, unique-ids, flags, the
-- time of delivery, in the order of delivery.  The Maildir stays as it is.
-- @tparam table store with `known` and `import`, as `popd.sqlite` has them
-- @string user
-- @string dir
-- @tparam[opt="name"] string|table style what the unique-ids are, as `popd.uidl` takes it
-- @treturn table `moved`, `known`: how many; `failed`: why others were not taken: they
-- could not be read, or have another message's unique-id; or nil and the reason.  What was moved before stays moved
function moving.import(store, user, dir, style)
   local names, why = fs.scandir(dir .. "/cur")
   if not names then
      return nil, why
   end
   local known
   known, why = store.known(user)
   if not known then
      return nil, why
   end
   -- Nothing is deleted there, so nobody has to be kept out.
   local lock = os.tmpname()
   local box = maildir.new { root = roots.literal(dir), lock = lock, uidl = style, tidy = false }
   local ok, err = box.lock(MBOX)
   local count
   if ok then
      count, err = take_all(store, user, box, known)
      box.unlock(MBOX)
   end
   os.remove(lock)
   return count, err
end

-- The base names that are there.
local function bases(dir)
   local found = {}
   for _, sub in ipairs { "/new", "/cur" } do
      local names, err = fs.scandir(dir .. sub)
      if not names then
         return nil, err
      end
      for _, name in ipairs(names) do
         found[name:match("^[^:]*")] = true
      end
   end
   return found
end

-- Under this name popd.maildir shows that unique-id.
local function name_of(one)
   local base = one.name or one.uid
   if base:find("[/:]") or base:sub(1, 1) == "." then
      return nil
   end
   return one.flags and ("%s:2,%s"):format(base, one.flags) or base, one.flags and "cur" or "new"
end

--- Puts a store's messages into a Maildir, which is made where it is absent.
-- A file's base name is the message's unique-id, or what popd.maildir makes that of.
-- @tparam table store with `export`, as `popd.sqlite` has it
-- @string user
-- @string dir
-- @treturn table `moved`, `known`, `failed` as `import` returns them; or nil and the reason
function moving.export(store, user, dir)
   local ok, err = delivery.make_maildir(dir)
   local there
   if ok then
      there, err = bases(dir)
   end
   if not there then
      return nil, err
   end
   local count = { moved = 0, known = 0, failed = {} }
   for _ in pairs(there) do
      count.known = count.known + 1
   end
   for one in store.export(user, there) do
      local name, sub = name_of(one)
      if name then
         local path, why = delivery.put(dir, one.message, name, sub)
         if not path then
            return nil, why
         end
         count.moved = count.moved + 1
      else
         table.insert(count.failed, one.uid .. ": no file of a Maildir can have this unique-id")
      end
   end
   for _, sub in ipairs { "/new", "/cur" } do -- the names of all, at once
      ok, err = fs.fsync(dir .. sub)
      if not ok then
         return nil, err
      end
   end
   return count
end

return moving
