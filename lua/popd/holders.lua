--- Who has a maildrop's lock, for the log line of `[IN-USE]`.
--
-- Sessions of this process are known here, whatever the storage.  Of others a
-- storage's `lock` may tell: it returns false and a table of what it knows.
-- @module popd.holders
local ask = require("popd.ask")
local core = require("popd.core")

local holders = {}

-- By storage, by mbox: the connection that has it, and since when.
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

--- A connection has a maildrop's lock from now on.
-- @tparam table storage
-- @param mbox
-- @param conn
function holders.note(storage, mbox, conn)
   held[storage] = held[storage] or {}
   held[storage][mbox] = { conn = conn, since = core.now() }
end

--- It has it no more.
-- @tparam table storage
-- @param mbox
function holders.forget(storage, mbox)
   if held[storage] then
      held[storage][mbox] = nil
   end
end

-- Log lines take text and numbers; seconds are enough.
local function shown(value)
   if type(value) == "number" then
      return math.type(value) == "float" and ("%.0f"):format(value) or value
   end
   return type(value) == "string" and value or nil
end

--- What the log tells of who has it.
-- @tparam table storage
-- @param mbox
-- @tparam ?table told what the storage told: any of `kind`, `process`, `age` and `idle` (seconds), `conn`, `path`
-- @treturn table fields for the log
function holders.fields(storage, mbox, told)
   local here, fields = held[storage] and held[storage][mbox], {}
   if here then
      fields.held_by, fields.held_process = "session", (core.spool_self())
      fields.held_conn, fields.held_age = here.conn.id, shown(core.now() - here.since)
      fields.held_idle = shown(here.conn.idle)
   end
   for name, called in pairs(FIELDS) do
      fields[called] = shown(rawget(told or {}, name)) or fields[called]
   end
   return fields
end

return holders
