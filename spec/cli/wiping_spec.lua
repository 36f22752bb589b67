--- What of a client's secret is left in the server's memory.  Lua's strings
-- cannot be wiped; what can be looked for is how a secret was sent, with
-- something before or behind it that Lua never gets.
local files = require("spec.support.files")
local program = require("spec.support.program")

local SECRET = "Ky8vQ2xvdWRidXJzdF9z" -- base64 of something
local PIECE = 1048576

-- The readable and writable parts of a process's memory: { from, octets }.
local function parts(pid)
   local list = {}
   for line in io.lines(("/proc/%d/maps"):format(pid)) do
      local from, to, rights = line:match("^(%x+)%-(%x+) (%S+)")
      if rights:find("^rw") and not line:find("%[v") then
         from, to = tonumber(from, 16), tonumber(to, 16)
         list[#list + 1] = { from, to - from }
      end
   end
   return list
end

-- A sanitizer has memory of its own, and far too much of it.
local function is_instrumented(pid)
   return files.text(("/proc/%d/maps"):format(pid)):find("lib%l+san%.so") ~= nil
end

-- How often a text is in a process's memory; nil: it cannot be looked at.
local function count(pid, text)
   if is_instrumented(pid) then
      return nil
   end
   local memory, n = io.open(("/proc/%d/mem"):format(pid), "rb"), 0
   if not memory then
      return nil
   end
   for _, part in ipairs(parts(pid)) do
      local rest = ""
      memory:seek("set", part[1])
      for left = part[2], 1, -PIECE do
         local octets = memory:read(math.min(left, PIECE))
         if not octets then
            break
         end
         octets = rest .. octets
         for _ in octets:gmatch(text) do
            n = n + 1
         end
         rest = octets:sub(-#text)
      end
   end
   memory:close()
   return n
end

local SCRIPT = [[
local popd = require("popd")
local users = { joe = "Ky8vQ2xvdWRidXJzdF9z" }
popd.new {
   port = 0, address = "127.0.0.1", plain_login = "always", max_failures = false, failure_delay = false,
   auth = { lookup = function(name) return users[name], name end },
   storage = { stat = function() return 0 end, get = function() end },
   commands = { OWN },
}:up()
]]

-- What a client sends, and what of it must be nowhere.
local ways = {
   { "USER and PASS", "USER joe\r\nPASS SECRET\r\n", "PASS SECRET" },
   { "a PASS that is refused", "PASS SECRET\r\n", "PASS SECRET" },
   { "a PASS that comes in two pieces", ("NOOP\r\n"):rep(9) .. "USER joe\r\nPASS SECR|ET\r\n", "PASS SECR" },
   { "AUTH", "AUTH PLAIN SECRET\r\n", "PLAIN SECRET" },
   { "an answer to a challenge", "AUTH LOGIN\r\nam9l\r\nSECRET\r\n", "am9l\r\nSECRET" },
   { "AUTH with a mechanism that is unknown", "AUTH X-NO SECRET\r\n", "X%-NO SECRET" },
   { "a line that is too long", "PASS SECRET" .. ("x"):rep(300) .. "\r\n", "PASS SECRET" },
   { "a PASS of the site's own", "PASS SECRET\r\n", "PASS SECRET",
      'PASS = { override = true, states = "auth", run = function() return "in" end }' },
   { "an AUTH of the site's own", "AUTH X-OWN SECRET\r\n", "AUTH X%-OWN SECRET",
      'AUTH = { override = true, states = "auth", run = function() return "in" end }' },
}

describe("the server's memory", function()
   local dir, started

   before_each(function()
      dir, started = files.new_dir(), nil
   end)

   after_each(function()
      if started then
         started:stop()
      end
      files.remove(dir)
   end)

   for _, way in ipairs(ways) do
      it("does not keep what was sent by " .. way[1], function()
         files.put(dir .. "/server.lua", (SCRIPT:gsub("OWN", way[4] or "")))
         started = program.start(program.popd_lua(), dir .. "/server.lua")
         local c = program.connect(started:port())
         local first, second = way[2]:gsub("SECRET", SECRET):gsub("SECR", SECRET:sub(1, 10)):match("^([^|]*)|?(.*)$")
         c.socket:send(first)
         if second ~= "" then
            repeat until c:line():find("password")
         end
         -- an open line behind it: the buffer stays in use
         c.socket:send(second .. "CAPA\r\nMARK-OF-THE-SPEC")
         repeat until c:line() == "."
         local text = way[3]:gsub("SECRET", SECRET):gsub("SECR", SECRET:sub(1, 10))
         local mark = count(started.pid, "MARK%-OF%-THE%-SPEC")
         if not mark then
            return pending("this process's memory cannot be read")
         end
         assert.is_true(mark > 0, "the buffer is not where it is looked for")
         assert.equal(0, count(started.pid, text))
      end)
   end
end)
