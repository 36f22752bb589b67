-- LuaSocket's own libraries and redis-lua, unmodified, inside callbacks of a real
-- server and against real servers, while five hundred other clients go on.
local client = require("support.client")
local fetching = require("support.fetching")
local files = require("support.files")
local peer = require("support.peer")
local process = require("support.process")
local service = require("support.service")

local OTHERS = 500
local REDIS_DIR = "/usr/share/lua/5.3" -- where Debian installs redis-lua; Lua 5.4 runs it

-- What the server runs.  Each command is a callback that uses a library.
local script = [[
local popd = require("popd")
local ports = { http = arg[1], nginx = arg[2], smtp = arg[3] }
local redis_path, redis_dir = arg[4], arg[5]
package.path = package.path .. ";" .. redis_dir .. "/?.lua"

local function keys(of)
   local set = {}
   for key, value in pairs(of) do
      set[key] = value
   end
   return set
end

local loaded, globals = keys(package.loaded), keys(_G)

local http, smtp, ltn12 = popd.require("socket.http"), popd.require("socket.smtp"), popd.require("ltn12")
local url, mime = popd.require("socket.url"), popd.require("mime")
local has_redis, redis = pcall(popd.require, "redis")

local function differences(before, now)
   local found = {}
   for key, value in pairs(now) do
      if before[key] ~= value then
         found[#found + 1] = tostring(key)
      end
   end
   for key in pairs(before) do
      if now[key] == nil then
         found[#found + 1] = tostring(key)
      end
   end
   return #found == 0 and "none" or table.concat(found, " ")
end

local pool = popd.pool {
   open = function() return redis.connect { scheme = "unix", path = redis_path } end,
   close = function(c) c:quit() end,
}

local function with_redis(f)
   return function(_, args)
      return (pool:with(f, args))
   end
end

local commands = {}

function commands.XLOADED()
   return differences(loaded, package.loaded) .. ", globals " .. differences(globals, _G)
end

function commands.XGET(_, args)
   local port, path = args:match("(%w+) (.*)")
   local body, code = http.request(("http://127.0.0.1:%s%s"):format(ports[port], path))
   return ("%s %s %d"):format(tostring(code), type(body) == "string" and body:sub(1, 20) or tostring(body),
      type(body) == "string" and #body or 0)
end

function commands.XPUMP(_, args)
   local parts = {}
   local _, code, headers = http.request {
      url = ("http://127.0.0.1:%s%s"):format(ports.http, args), headers = { ["x-a"] = mime.b64("b") },
      sink = ltn12.sink.chain(mime.encode("base64"), (ltn12.sink.table(parts))),
   }
   return ("%d %s %d"):format(code, headers["content-type"], #mime.unb64(table.concat(parts)))
end

function commands.XPOST(_, args)
   local _, code = http.request(("http://127.0.0.1:%s/"):format(ports.http), "a=" .. url.escape(args))
   return tostring(code)
end

commands.XSET = with_redis(function(client, args)
   return tostring(client:set(args, "value of " .. args)) .. ", " .. client:get(args)
end)

-- Of commands whose answers redis-lua parses: with others its pipelines fail from Lua 5.3 on.
commands.XPIPE = with_redis(function(client, args)
   local replies = client:pipeline(function(p)
      for i = 1, 50 do
         p:setnx(args .. i, i)
         p:exists(args .. i)
      end
   end)
   return ("%d %s"):format(#replies, tostring(replies[100]))
end)

commands.XTRANS = with_redis(function(client, args)
   local replies = client:transaction({ watch = args, cas = true }, function(t)
      local old = tonumber(t:get(args) or 0)
      popd.sleep(0) -- in the library's own coroutine
      t:multi()
      t:set(args, old + 1)
      t:get(args)
   end)
   return replies[2]
end)

-- Answers once somebody has published "stop".
commands.XLISTEN = with_redis(function(client, args)
   local got = {}
   for message, abort in client:pubsub { subscribe = { args } } do
      got[#got + 1] = message.kind .. "=" .. tostring(message.payload)
      if message.payload == "stop" then
         abort()
      end
   end
   return table.concat(got, " ")
end)

commands.XPUBLISH = with_redis(function(client, args)
   local channel, text = args:match("(%S+) (.*)")
   return tostring(client:publish(channel, text))
end)

-- Answers once there is something in the list.
commands.XBLPOP = with_redis(function(client, args)
   return client:blpop(args, 0)[2]
end)

commands.XRPUSH = with_redis(function(client, args)
   local list, text = args:match("(%S+) (.*)")
   return tostring(client:rpush(list, text))
end)

local function message(to)
   local left = 3
   return smtp.message {
      headers = { to = to, subject = "from a callback" },
      body = {
         { headers = { ["content-type"] = "text/plain" }, body = "hello\r\n.dotted\r\n" },
         { headers = { ["content-type"] = "text/html" }, body = function()
            left = left - 1
            popd.sleep(0) -- in smtp.message's coroutine
            return left > 0 and "line\r\n" or nil
         end },
      },
   }
end

function commands.XMAIL(_, args)
   local ok, why = smtp.send {
      from = "<joe@example.org>", rcpt = { "<" .. args .. "@example.org>" }, source = message(args),
      server = "127.0.0.1", port = ports.smtp,
   }
   return tostring(ok) .. " " .. tostring(why)
end

local made = {}
for name, f in pairs(commands) do
   made[name] = { run = f, states = "both" }
end

popd.new("libraries", {
   address = "127.0.0.1", port = 0, max_per_address = 2000, max_connections = 2000, login_timeout = false,
   auth = { lookup = function(name)
      local body, code = http.request(("http://127.0.0.1:%s/users/%s"):format(ports.http, name))
      if code == 200 then
         return (body:gsub("%s", "")), name
      end
   end },
   storage = {
      stat = function() return 2 end,
      get = function(mbox, id)
         if id == 1 then
            return message(mbox)
         end
         local parts = {}
         http.request { url = ("http://127.0.0.1:%s/big"):format(ports.http), sink = ltn12.sink.table(parts) }
         return ltn12.source.table(parts)
      end,
   },
   commands = made,
}):up()
print("redis " .. tostring(has_redis))
]]

describe("libraries that were written for LuaSocket", function()
   local root, server, http, nginx, smtp, redis, others
   local big = ("a line of a big message\r\n"):rep(20000)

   local function start_http()
      local port = peer.dead_port()
      files.run("mkdir -p %s %s", root .. "/www/users", root .. "/sent")
      files.put(root .. "/www/users/joe", "secret\n")
      files.put(root .. "/www/big", big)
      http = service.start { "python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "-d", root .. "/www", port }
      http:wait_port(port)
      return port
   end

   local function start_nginx()
      local port = peer.dead_port()
      if process.has("nginx") then
         local conf = ([[
            daemon off; master_process off; pid R/nginx.pid; error_log R/nginx.log;
            events { worker_connections 64; }
            http {
               access_log off; client_body_temp_path R/b; proxy_temp_path R/p; fastcgi_temp_path R/f;
               uwsgi_temp_path R/u; scgi_temp_path R/s; chunked_transfer_encoding on; gzip on; gzip_min_length 1;
               server { listen 127.0.0.1:P; root R/www; location /old { return 302 /big; } ssi on; ssi_types *; }
            }
         ]]):gsub("[RP]%f[/;]", { R = root, P = port })
         nginx = service.start { "nginx", "-c", files.put(root .. "/nginx.conf", conf), "-p", root }
         nginx:wait_port(port)
      end
      return port
   end

   local function start_smtp()
      local port = peer.dead_port()
      smtp = service.start { "python3", fetching.helper("smtp_sink.py"), port, root .. "/sent" }
      smtp:wait_port(port)
      return port
   end

   local function start_redis()
      if process.has("redis-server") then
         redis = service.start {
            "redis-server", "--port", 0, "--unixsocket", root .. "/redis", "--dir", root,
            "--save", "", "--appendonly", "no",
         }
         redis:wait_for(function()
            local sock = require("socket.unix")()
            return sock:connect(root .. "/redis") and sock
         end)
      end
   end

   lazy_setup(function()
      root = files.new_dir()
      files.run("chmod 755 %s", root)
      local port = start_http()
      local nginx_port, smtp_port = start_nginx(), start_smtp()
      start_redis()
      server = process.start({ files.put(root .. "/server.lua", script), port, nginx_port, smtp_port, root .. "/redis",
         REDIS_DIR }, { descriptors = 4096 })
      server:wait_port()
      others = {}
      for i = 1, OTHERS do
         others[i] = client.connect(server.port)
      end
   end)

   lazy_teardown(function()
      client.finish()
      for _, one in pairs { server, http, nginx, smtp, redis } do
         one:stop()
      end
      files.remove(root)
   end)

   -- Every one of the others asks and is answered.
   local function others_go_on()
      for _, c in ipairs(others) do
         c:send("NOOP\r\n")
      end
      for _, c in ipairs(others) do
         assert.truthy(c:line())
      end
   end

   -- A command's reply, which does not come while `held` is held up; the others go on.
   local function meanwhile(held, command, expected)
      local c = client.connect(server.port)
      held:signal("STOP")
      c:send(command .. "\r\n")
      others_go_on()
      c:fill()
      assert.equal("", c.buffer)
      held:signal("CONT")
      assert.equal("+OK " .. expected, c:line())
      c:close()
   end

   local function said(command, expected)
      local c = client.connect(server.port)
      c:send(command .. "\r\n")
      assert.equal("+OK " .. expected, c:line())
      c:close()
   end

   local function needs(one, name)
      if not one then
         pending(name .. " is not installed")
      end
   end

   it("leave package.loaded and the globals as they were", function()
      said("XLOADED", "none, globals none")
   end)

   it("fetch by socket.http", function()
      meanwhile(http, "XGET http /users/joe", "200 secret? 7") -- its line end is no text of a reply
      said("XGET http /none", "404 <!DOCTYPE HTML>?<htm 335")
      meanwhile(http, "XPUMP /big", "200 application/octet-stream " .. #big)
      said("XPOST a&b", "501")
   end)

   it("fetch by socket.http from nginx, redirects and chunks too", function()
      needs(nginx, "nginx")
      meanwhile(nginx, "XGET nginx /old", "200 " .. big:sub(1, 20) .. " " .. #big)
   end)

   it("send by socket.smtp what smtp.message makes", function()
      meanwhile(smtp, "XMAIL ann", "1 nil")
      local text = files.text(root .. "/sent/1")
      assert.truthy(text:find("^MAIL FROM:<joe@example.org>; RCPT TO:<ann@example.org>\r\n"))
      assert.truthy(text:find("hello\r\n.dotted\r\n", 1, true) and text:find("line\r\nline\r\n", 1, true))
      said("XMAIL nobody", "nil 550 unknown")
   end)

   it("are a login's lookup, and a message's source", function()
      local c = client.connect(server.port)
      http:signal("STOP")
      c:send("USER joe\r\nPASS secret\r\n")
      others_go_on()
      http:signal("CONT")
      assert.truthy(c:line():find("^%+OK"))
      assert.truthy(c:line():find("^%+OK"))
      c:send("RETR 2\r\n")
      assert.equal("+OK " .. #big .. " octets", c:line())
      assert.equal(big, c:bulk(#big))
      assert.equal(".", c:line())
      local body = c:fetch("RETR 1")
      assert.truthy(body:find("hello\r\n.dotted\r\n", 1, true) and body:find("line\r\nline\r\n", 1, true))
      c:send("QUIT\r\n")
      c:closed()
      c = client.connect(server.port)
      c:command("USER eve")
      assert.truthy(c:command("PASS x"):find("^%-ERR %[AUTH%]"))
   end)

   it("ask Redis, by commands, pipelines and transactions", function()
      needs(redis, "redis-server")
      meanwhile(redis, "XSET k", "true, value of k")
      meanwhile(redis, "XPIPE p", "100 true")
      meanwhile(redis, "XTRANS t", "1")
      said("XTRANS t", "2")
   end)

   it("count right in Redis where many do it at once", function()
      needs(redis, "redis-server")
      for i = 1, 100 do
         others[i]:send(("XTRANS n%d\r\nXPIPE q%d\r\n"):format(i % 10, i))
      end
      local sum = 0
      for i = 1, 100 do
         local reply = others[i]:line()
         sum = sum + (tonumber(reply:match("^%+OK (%d+)$")) and 1 or 0)
         assert.equal("+OK 100 true", others[i]:line())
      end
      assert.is_true(sum > 0)
   end)

   it("wait for what Redis tells, while others go on", function()
      needs(redis, "redis-server")
      local listener, popper = client.connect(server.port), client.connect(server.port)
      listener:send("XLISTEN news\r\n")
      popper:send("XBLPOP list\r\n")
      others_go_on()
      client.wait_for("the subscription", function()
         local c = others[1]
         c:send("XPUBLISH news hello\r\n")
         return c:line() == "+OK 1"
      end)
      others_go_on()
      said("XRPUSH list something", "1")
      assert.equal("+OK something", popper:line())
      listener:fill()
      assert.equal("", listener.buffer)
      said("XPUBLISH news stop", "1")
      assert.equal("+OK subscribe=1 message=hello message=stop", listener:line())
   end)

   it("raise at the caller's where they are not there", function()
      local popd = require("popd")
      local ok, err = pcall(function() popd.require("no.such.library") end)
      assert.is_false(ok)
      assert.truthy(err:find("libraries_spec.lua", 1, true) and err:find("no.such.library", 1, true), err)
   end)
end)
