--- Stores by their names on a command line: `maildir:PATH`, `dbox:DIR`, `sqlite:FILE`, and
-- `mbox:PATH`, `mboxrd:PATH`, `mboxcl:PATH`, which are the formats of mbox files.
-- @module popd.stores
local core = require("popd.core")
local delivery = require("popd.delivery")
local fs = require("popd.fs")
local roots = require("popd.root")

local stores = {}

local NAMES = "maildir:PATH, mbox:PATH, mboxrd:PATH, mboxcl:PATH, dbox:DIR, sqlite:FILE"

local SIGXFSZ = 25

-- Seconds that a delivery waits for a session to end.  An MTA waits as long, and
-- comes again later.
local WAIT = 30

local function mbox_of(format)
   return function(path)
      local wrong = roots.fault(path, "the path")
      if wrong then
         return nil, wrong
      end
      return require("popd.mbox").new { root = path, format = format, lock = { "fcntl", "dotlock", wait = WAIT } }
   end
end

-- Each makes a table with `deliver`, or returns nil and the reason.
local kinds = {
   maildir = function(path)
      local wrong = roots.fault(path, "the path")
      if wrong then
         return nil, wrong
      end
      return { deliver = delivery.maildir { root = path } }
   end,
   dbox = function(path)
      return require("popd.dbox").new { base = path }
   end,
   mbox = mbox_of("mboxo"),
   mboxcl = mbox_of("mboxcl"),
   mboxrd = mbox_of("mboxrd"),
   sqlite = function(path)
      local size, why = fs.size(path) -- a path that is misspelt is not to be made
      if not size then
         return nil, why
      end
      local ok, store = pcall(require("popd.sqlite").new, { file = path, threads = 1 })
      if not ok then
         return nil, (tostring(store):gsub("\nstack traceback:.*$", ""):gsub("^[%w%._/-]+:%d+: ", ""))
      end
      return store
   end,
}

--- Takes the name of a store apart.
-- @string name
-- @treturn string kind
-- @treturn string path; or nil and what is wrong
function stores.split(name)
   local kind, path = name:match("^(%l+):(.+)$")
   if not kinds[kind] then
      return nil, ("--store: '%s' is none of %s"):format(name, NAMES)
   end
   return kind, path
end

--- Opens a store for a command that does its work and ends.
-- @string name
-- @treturn table with `deliver` at least; or nil and the reason
-- @treturn string its kind
function stores.open(name)
   local kind, path = stores.split(name)
   if not kind then
      return nil, path
   end
   -- Else a limit on the size of files would end the process, and not the write.
   core.signal(SIGXFSZ, function() end)
   local store, why = kinds[kind](path)
   if not store then
      return nil, ("--store %s: %s"):format(name, why)
   end
   return store, kind
end

return stores
