-- The guide's examples of what callbacks may wait for, run as they stand there.
local client = require("support.client")
local files = require("support.files")
local peer = require("support.peer")
local popd = require("popd")
local tls = require("support.tls")

local guide = files.text("docs/guide.md")

-- A section's example, whose `name` is returned.  Words of it are replaced: ports, paths.
local function example(heading, name, words, before)
   local text = assert(guide:match("\n### " .. heading .. "\n.-```lua\n(.-)```"), heading)
   for from, to in pairs(words) do
      local count
      text, count = text:gsub(from:gsub("%p", "%%%0"), (tostring(to):gsub("%%", "%%%%")))
      assert.is_true(count > 0, from)
   end
   local f = assert(load(("local popd, redis = ...\n%s\nreturn %s"):format(text, name), "=guide"))
   return f(popd, before)
end

describe("the guide's example of", function()
   after_each(client.finish)

   it("sockets asks a server", function()
      local listener = peer.listen()
      local exists = example("Sockets", "exists", { ["4000"] = listener.port })
      for answer, expected in pairs { YES = true, NO = false } do
         local task = peer.task(exists, "joe")
         local p = listener:accept()
         assert.equal("EXISTS joe", p:line())
         p:send(answer .. "\r\n")
         assert.equal(expected, task:values())
         assert.is_true(p:closed())
      end
   end)

   it("HTTP checks a password", function()
      local listener = peer.listen()
      local auth = example("HTTP", "auth", { ["8080"] = listener.port })
      local p
      for status, expected in pairs { [200] = "joe", [403] = false } do
         local task = peer.task(auth.verify, "joe", "a&b=c d")
         p = p or listener:accept()
         p:want("the body", function(buffer)
            return buffer:find("\r\n\r\nuser=joe&password=a%26b%3Dc%20d", 1, true)
         end)
         p.buffer = ""
         p:send(("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n"):format(status))
         assert.equal(expected or nil, (task:values()))
      end
   end)

   it("TLS clients opens a connection that is verified", function()
      local pki = tls.new_pki()
      pki:make("localhost")
      local listener = peer.listen()
      local words = { ["993"] = listener.port, ["/etc/popd/ca.pem"] = pki:path("ca.pem") }
      local open = example("TLS clients", "open", words)
      local task = peer.task(open)
      assert(tls.secure(listener:accept(), { mode = "server", certificate = pki:path("localhost.pem"),
         key = pki:path("localhost.key") }))
      assert.is_truthy(task:values())
      pki:remove()
   end)

   it("libraries loads what is there", function()
      local path = package.path
      finally(function() package.path = path end)
      package.path = path .. ";/usr/share/lua/5.3/?.lua"
      local ok, smtp = pcall(example, "Libraries", "smtp", {})
      if not ok then
         pending("redis-lua or LuaSocket is not installed")
      end
      assert.is_function(smtp.send)
   end)

   it("pools lends a client", function()
      local opened, quit = 0, 0
      local redis = { connect = function(host, port)
         assert.same({ "127.0.0.1", 6379 }, { host, port })
         opened = opened + 1
         return {
            hget = function(_, key, name) return key == "passwords" and name == "joe" and "secret" or nil end,
            quit = function() quit = quit + 1 end,
         }
      end }
      local lookup = example("Pools and mutexes", "lookup", {}, redis)
      assert.same({ "secret", "joe", n = 2 }, peer.task(lookup, "joe"):results())
      assert.same({ n = 0 }, peer.task(lookup, "eve"):results())
      assert.same({ 1, 0 }, { opened, quit })
   end)
end)
