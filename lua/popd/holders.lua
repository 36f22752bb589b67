--- Who has a maildrop's lock, for the log line of `[IN-USE]`.
--
-- Sessions of this process are known here, whatever the storage.  Of others a
-- storage's `lock` may tell: it returns false and a table of what it knows.
-- @module popd.holders
local ask = require("popd.ask")
local core = require("popd.core")

local holders = {}

-- By storage, by mbox: the connection whose session has it.
local held = setmetatable({}, { __mode = "k" })

-- What a storage may tell, and what the log calls it.
local FIELDS = {
   kind = "held_by", process = "held_process", conn = "held_conn", age = "held_age", idle = "held_idle",
   path = "held_path",
}

--- Whether what a `lock` returned tells that somebody has it, and who; with a text, or
-- a table of what the client reads, false is a fault.
-- @param got the first value
-- @param second the second one
-- @treturn boolean
function holders.are_told(got, second)
   return got == false and type(second) == "table" and not ask.is_told(second)
end

--- A session has its maildrop's lock from now on.
-- @tparam table st its `storage`, `mbox` and `locked`, since when; the connection's own (`core.conn_private`)
-- @param conn
function holders.note(st, conn)
   local sessions = held[st.storage]
   if not sessions then
      sessions = {}
      held[st.storage] = sessions
   end
   sessions[st.mbox] = conn
end

--- It has it no more.
-- @tparam table st
function holders.forget(st)
   held[st.storage][st.mbox] = nil
end

-- Log lines take text and numbers; seconds are enough.
local function shown(value)
   if type(value) == "number" then
      return math.type(value) == "float" and ("%.0f"):format(value) or value
   end
   return type(value) == "string" and value or nil
end

--- What the log tells of who has the maildrop that a session wants.
-- @tparam table st
-- @tparam ?table told what the storage told: any of `kind`, `process`, `age` and `idle` (seconds), `conn`, `path`
-- @treturn table fields for the log
function holders.fields(st, told)
   local here, fields = held[st.storage] and held[st.storage][st.mbox], {}
   if here then
      fields.held_by, fields.held_process = "session", (core.spool_self())
      fields.held_conn, fields.held_age = here.id, shown(core.now() - core.conn_private(here).locked)
      fields.held_idle = shown(here.idle)
   end
   for name, called in pairs(FIELDS) do
      fields[called] = shown(rawget(told or {}, name)) or fields[called]
   end
   return fields
end

return holders
