--- What a storage of our own has for the core in place of what its functions return to
-- everybody: by the function, so that one that is wrapped by a script is called as it is.
-- @module popd.lists
local lists = {}

local by_function = setmetatable({}, { __mode = "k" })

--- Offers something better for a function of a storage.
-- @func f its `scan`, or its `get`
-- @func better for `scan`: called with an mbox, the list (see `core.mail`) which has what `scan` would return; for
-- `get`: called once a session, with an mbox, the list by whose numbers the core finds the messages as long as it
-- serves them, and the path of their Maildir, or nil: `get` knows better. It neither waits nor raises, and runs
-- nothing of a script's
function lists.offer(f, better)
   by_function[f] = better
end

--- What is offered for a function.
-- @func f
-- @treturn function or nil
function lists.of(f)
   return by_function[f]
end

return lists
