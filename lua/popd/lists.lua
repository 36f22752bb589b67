--- Storages that can hand the core a list (see `core.mail`) in place of what
-- their `scan` returns: by that function, so that one that is wrapped by a script is
-- called as it is.
-- @module popd.lists
local lists = {}

local by_scan = setmetatable({}, { __mode = "k" })

--- Makes a storage's `scan` one for which there is a list.
-- @func scan
-- @func list called with an mbox: the list, which has what `scan` would return
function lists.offer(scan, list)
   by_scan[scan] = list
end

--- What is offered for a `scan`.
-- @func scan
-- @treturn function or nil
function lists.of(scan)
   return by_scan[scan]
end

return lists
