-- The PROXY header as a real proxy sends it.
local files = require("spec.support.files")
local program = require("spec.support.program")

local function installed()
   return os.execute("command -v haproxy >/dev/null 2>&1") == true
end

local server_script = [[
   local popd = require "popd"
   local server = popd.new {
      port = 0, address = "127.0.0.1", proxy = { "127.0.0.0/8" },
      auth = { lookup = function(name) return "secret", name end },
      storage = { stat = function() return 1 end, get = function() return "Subject: hi\n\nhello\n" end },
      commands = { XPEER = { run = function(conn) return conn.remotehost .. " " .. conn.remoteport end } },
   }
   server:up()
   popd.run()
]]

local config = [[
defaults
   mode tcp
   timeout connect 10s
   timeout client 30s
   timeout server 30s
frontend pop3
   bind %s/front
   default_backend popd
backend popd
   server popd 127.0.0.1:%d %s
]]

describe("behind HAProxy", function()
   local dir, server, proxy

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      if proxy then
         proxy:stop()
      end
      if server then
         server:stop()
      end
      proxy, server = nil, nil
      files.remove(dir)
   end)

   -- A session through the proxy, from a Unix socket of its own to our port.
   local function session(header)
      server = program.start(program.popd_lua(), "-e", server_script)
      files.put(dir .. "/haproxy.cfg", config:format(dir, server:port(), header))
      proxy = program.start({ "haproxy" }, "-db", "-f", dir .. "/haproxy.cfg")
      local _, out = program.run({ "sh", "-c", ([[
         while ! test -S %s/front; do :; done
         printf 'USER joe\r\nPASS secret\r\nXPEER\r\nRETR 1\r\nQUIT\r\n' | curl -s --unix-socket %s/front telnet://x
      ]]):format(dir, dir) })
      return out
   end

   for _, header in ipairs { "send-proxy", "send-proxy-v2" } do
      it("serves what comes with its header (" .. header .. ")", function()
         if not installed() then
            return pending("haproxy is not installed (make peers)")
         end
         local out = session(header)
         assert.truthy(out:find("+OK POP3 server ready", 1, true), out)
         assert.truthy(out:find("Subject: hi\r\n\r\nhello\r\n.\r\n+OK bye", 1, true), out)
      end)
   end

   it("refuses what comes without one", function()
      if not installed() then
         return pending("haproxy is not installed (make peers)")
      end
      assert.equal("", session(""))
   end)
end)
