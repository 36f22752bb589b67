-- A log's function may end what the line is about, in the midst of what the core
-- does with it: then nothing goes on with it, and everything is given back.
local client = require("support.client")
local popd = require("popd")
local tls = require("support.tls")

describe("a log's function that ends its server", function()
   local pki, unlocked

   setup(function()
      pki = tls.new_pki()
      pki:make("server")
   end)

   teardown(function()
      pki:remove()
   end)

   after_each(client.finish)

   -- Serves, and at the first line that matches destroys the server.
   local function serve(pattern, patience)
      unlocked = 0
      local server = client.server {
         tls = pki:pair("server"),
         handshake_timeout = patience,
         auth = { lookup = function(name) return "secret", name end },
         storage = {
            lock = function() return true end,
            unlock = function() unlocked = unlocked + 1 end,
            stat = function() return 1 end,
            size = function() return 5 end,
            get = function() return "of another size\r\n" end,
         },
      }
      local lines = {}
      popd.log_to(function(_, line)
         lines[#lines + 1] = line
         assert(#lines < 100, "it is told of again and again")
         if line:find(pattern, 1, true) then
            pattern = "\0" -- once
            server:destroy()
         end
      end, "debug")
      return server, lines
   end

   -- pattern, what the client sends, how often unlock is called, handshake_timeout
   for _, case in ipairs {
      { "behind STLS was dropped", "STLS\r\nNOOP\r\n", 0 },
      { "a TLS handshake failed", { "STLS\r\n", "no TLS at all, but rather long\r\n" }, 0 },
      { "it took too long", "STLS\r\n", 0, 0.05 },
      { "told a wrong size", "USER joe\r\nPASS secret\r\nRETR 1\r\nNOOP\r\nQUIT\r\n", 1 },
      { "logged in", "USER joe\r\nPASS secret\r\nSTAT\r\n", 1 },
   } do
      it(("ends with it: %s"):format(case[1]), function()
         local server, lines = serve(case[1], case[4])
         local c = client.open(server)
         c:line()
         for n, raw in ipairs(type(case[2]) == "table" and case[2] or { case[2] }) do
            if n > 1 then
               c:line()
            end
            c:send(raw)
         end
         client.wait_for("the connection's end", function()
            c:fill()
            return c.eof
         end)
         client.drain()
         assert.equal(case[3], unlocked)
         assert.is_true(#lines < 20, table.concat(lines, "\n"))
      end)
   end
end)
