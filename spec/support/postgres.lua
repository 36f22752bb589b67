--- A PostgreSQL of a spec's own: on a Unix socket in a directory that goes with it.
local files = require("spec.support.files")

local postgres = {}

-- A command's first line of output, or nil.
local function ask(command)
   local line = files.first_line(command .. " 2>/dev/null")
   return line ~= "" and line or nil
end

-- Where the server's programs are; Debian keeps them out of PATH.
local function find_programs()
   return ask("ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1")
      or ask('dirname "$(command -v initdb)" | grep /')
end

-- PostgreSQL refuses to run as root.
local function as_its_user()
   return ask("id -u") == "0" and "setpriv --reuid=postgres --regid=postgres --clear-groups -- " or ""
end

--- Why there can be none here, or nil.
function postgres.missing()
   if not pcall(require, "luasql.postgres") then
      return "LuaSQL's driver for PostgreSQL is not installed"
   elseif not find_programs() then
      return "PostgreSQL is not installed"
   elseif as_its_user() ~= "" and not ask("id -u postgres") then
      return "PostgreSQL does not run as root, and there is no user postgres"
   end
end

local Server = {}
Server.__index = Server

--- Makes one, which does not run yet.
function postgres.new()
   local self = setmetatable({ dir = files.new_dir(), made = 0 }, Server)
   self.before = ("cd %s && %s%s/"):format(files.quote(self.dir), as_its_user(), find_programs())
   if as_its_user() ~= "" then
      files.run("chown postgres: %s", self.dir)
   end
   self:run("initdb --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C data")
   return self
end

--- Runs one of its programs, which must succeed.
function Server:run(command)
   assert(os.execute(("(%s%s) >%s/said 2>&1 </dev/null"):format(self.before, command, self.dir)),
      "PostgreSQL: " .. command)
end

--- Starts it, and waits until it answers.
function Server:start()
   self:run(([[pg_ctl -w -D data -l log -o "-c listen_addresses='' -c fsync=off -k %s" start]]):format(self.dir))
end

--- Ends it, and waits for its end; connections are cut.
function Server:stop()
   self:run("pg_ctl -w -D data -m fast stop")
end

function Server:restart()
   self:stop()
   self:start()
end

--- The connection string of a database.
function Server:source(database)
   return ("host=%s user=postgres dbname=%s"):format(self.dir, database)
end

--- A database that is empty: its connection string.
function Server:database()
   self.made = self.made + 1
   local name = "mail" .. self.made
   self:query(self:source("postgres"), "CREATE DATABASE " .. name)
   return self:source(name)
end

--- A connection of the spec's; `close` it.
function Server.connect(_, source)
   local env = require("luasql.postgres").postgres()
   local db = assert(env:connect(source))
   return {
      query = function(sql)
         local result = assert(db:execute(sql))
         local value = type(result) == "userdata" and result:fetch() or result
         if type(result) == "userdata" then
            result:close()
         end
         return value
      end,
      close = function()
         db:close()
         env:close()
      end,
   }
end

--- One statement; the first value of its first row.
function Server:query(source, sql)
   local db = self:connect(source)
   local ok, value = pcall(db.query, sql)
   db.close()
   return assert(ok, value) and value
end

--- Ends it and removes what it kept.
function Server:remove()
   pcall(self.run, self, "pg_ctl -w -D data -m immediate stop")
   files.remove(self.dir)
end

return postgres
