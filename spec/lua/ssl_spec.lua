-- TLS on popd's sockets, against OpenSSL's (LuaSec) played by the spec.
local client = require("support.client")
local files = require("support.files")
local peer = require("support.peer")
local popd = require("popd")
local service = require("support.service")
local socket = require("popd.socket")
local ssl = require("popd.ssl")
local tls = require("support.tls")

describe("popd.ssl", function()
   local pki, other

   lazy_setup(function()
      pki, other = tls.new_pki(), tls.new_pki()
      pki:make("server", { names = "DNS:localhost,DNS:*.example.org,IP:127.0.0.1,IP:::1" })
      pki:make("named", { names = "DNS:localhost" })
      pki:make("rsa", { kind = "rsa", names = "IP:127.0.0.1" })
      pki:make("old", { names = "IP:127.0.0.1", expired = true })
      pki:make("text", { names = "DNS:127.0.0.1", subject = "/CN=127.0.0.1" })
      pki:make("me", { names = "email:me@example.org" })
      other:make("server", { names = "IP:127.0.0.1" })
   end)

   lazy_teardown(function()
      pki:remove()
      other:remove()
   end)

   after_each(client.finish)

   local function trusting(more)
      local params = { mode = "client", cafile = pki:path("ca.pem") }
      for key, value in pairs(more or {}) do
         params[key] = value
      end
      return params
   end

   -- Connects, and shakes hands as `params` say: the socket; or nil and the reason.
   local function open(port, params, host)
      local c = assert(socket.connect("127.0.0.1", port))
      if host then
         c:sni(host)
      end
      local wrapped, why = ssl.wrap(c, params)
      if not wrapped then
         return nil, why
      end
      local ok
      ok, why = c:dohandshake()
      return ok and c or nil, why
   end

   -- The other side's half, with a certificate of that pki: the client, or nil and why.
   local function serve(p, name, more, by)
      local params = { mode = "server", protocol = "any", options = "all",
         certificate = (by or pki):path(name .. ".pem"),
         key = (by or pki):path(name .. ".key") }
      for key, value in pairs(more or {}) do
         params[key] = value
      end
      return tls.secure(p, params)
   end

   -- A handshake of both: the task, and the other side.
   local function shake(name, params, host, by, more)
      local listener = peer.listen()
      local task = peer.task(open, listener.port, params, host)
      local p = listener:accept()
      local secured, why = serve(p, name, more, by)
      listener:close()
      return task, secured or p, why
   end

   it("verifies by default, and says what is wrong with a certificate", function()
      local refused = "the server's certificate is refused: "
      local untrusted = refused .. "no authority that is trusted here vouches for it"
      for _, case in ipairs {
         { "server", {}, nil, pki, untrusted },
         { "server", { verify = "peer" }, nil, pki, untrusted },
         { "server", trusting(), nil, other, untrusted },
         { "server", trusting(), "pop.example.net", pki, refused .. "it is for another host" },
         { "server", trusting(), "a.b.example.org", pki, refused .. "it is for another host" },
         { "server", trusting(), "127.0.0.2", pki, refused .. "it is for another host" },
         { "server", trusting(), "::2", pki, refused .. "it is for another host" },
         { "named", trusting(), nil, pki, refused .. "it is for another host" }, -- by address, which it does not name
         { "text", trusting(), nil, pki, refused .. "it is for another host" }, -- nor as a text
         { "old", trusting(), nil, pki, refused .. "it has expired" },
      } do
         local task, p = shake(case[1], case[2], case[3], case[4])
         local c, why = task:values()
         assert.is_nil(c)
         assert.equal(case[5], why)
         assert.is_true(p:closed())
      end
   end)

   it("takes a certificate that is for the host, by a file of authorities", function()
      for _, case in ipairs {
         { "server" }, { "server", "127.0.0.1" }, { "server", "::1" }, { "server", "localhost" },
         { "server", "pop.example.org" }, { "named", "localhost" }, { "rsa" },
      } do
         local task, p = shake(case[1], trusting(), case[2])
         local c, why = task:values()
         assert.is_truthy(c, why)
         c:close()
         assert.is_true(p:closed())
      end
   end)

   it("takes anybody's where nothing is to be verified", function()
      for _, verify in ipairs { "none", { "none" } } do
         for _, name in ipairs { "old", "server" } do
            local task = shake(name, { verify = verify }, nil, name == "server" and other or pki)
            assert.is_truthy(task:values())
         end
      end
   end)

   it("asks for the host's name, never for an address", function()
      local task, p = shake("server", trusting(), "pop.example.org")
      assert.is_truthy(task:values())
      assert.equal("pop.example.org", p.socket:getsniname())
      task, p = shake("server", trusting())
      assert.is_truthy(task:values())
      assert.is_nil(p.socket:getsniname())
   end)

   it("needs a name to verify, and says so", function()
      local dir = files.new_dir()
      local listener = peer.listen_unix(dir .. "/s")
      local why = peer.run(function()
         local c = socket.unix()
         c:connect(dir .. "/s")
         ssl.wrap(c, trusting())
         return (select(2, c:dohandshake()))
      end)
      assert.truthy(why:find("cannot be verified without the server's name", 1, true), why)
      listener:accept()
      files.remove(dir)
   end)

   it("shows its own certificate to a server that asks", function()
      local params = trusting { certificate = pki:path("me.pem"), key = pki:path("me.key") }
      local task, p = shake("server", params, nil, nil, { verify = { "peer", "fail_if_no_peer_cert" },
         cafile = pki:path("ca.pem") })
      assert.is_truthy(task:values())
      assert.equal("me", tls.name(p))
      local listener = peer.listen()
      task = peer.task(function()
         local c, why = open(listener.port, trusting())
         if c then -- TLS 1.3 tells it later
            c, why = c:receive()
         end
         return c, why
      end)
      p = listener:accept()
      assert.is_nil((serve(p, "server", { verify = { "peer", "fail_if_no_peer_cert" }, cafile = pki:path("ca.pem") })))
      p:close()
      local none, why = task:values()
      assert.is_nil(none)
      assert.is_string(why)
   end)

   it("carries data both ways, of more than a record", function()
      local text = ("0123456789abcdef"):rep(100000)
      local listener = peer.listen()
      local task = peer.task(function()
         local c = assert(open(listener.port, trusting()))
         assert(c:send(text) == #text)
         local back = c:receive(#text)
         local line = c:receive()
         local sent = select(2, c:getstats())
         return back == text, line, { c:receive() }, sent
      end)
      local p = assert(serve(listener:accept(), "server"))
      assert.equal(text, p:bulk(#text))
      p:send(text)
      p:send("line\r\n")
      peer.settle()
      p:close()
      assert.same({ true, "line", { nil, "closed", "" }, #text, n = 4 }, task:results())
   end)

   it("tells which TLS is spoken", function()
      local task = shake("server", trusting())
      local c = task:values()
      assert.truthy(c:info("protocol"):find("^TLSv1%.[23]$"))
      assert.equal(c:info("cipher"), c:info().cipher)
      assert.is_nil(socket.tcp():info())
   end)

   it("speaks TLS 1.3 alone where that is asked, or says that it cannot", function()
      local context, why = ssl.newcontext(trusting { protocol = "tlsv1_3" })
      if not context then
         assert.truthy(why:find("this mbedTLS", 1, true), why)
         return
      end
      local task = shake("server", trusting { protocol = "tlsv1_3" })
      assert.equal("TLSv1.3", task:values():info("protocol"))
      task = shake("server", trusting { protocol = "tlsv1_3" }, nil, nil, { protocol = "tlsv1_2" })
      assert.is_nil((task:values()))
   end)

   it("takes no older TLS than 1.2", function()
      local task = shake("server", trusting(), nil, nil, { protocol = "tlsv1_1", ciphers = "ALL:@SECLEVEL=0" })
      local c, why = task:values()
      assert.is_nil(c)
      assert.is_string(why)
   end)

   it("says that the other side speaks no TLS, or left", function()
      for octets, words in pairs {
         ["+OK no TLS here\r\n"] = "the server does not speak TLS", [""] = "the server left",
            ["\x16\3"] = "the server left",
         ["\x15\3\3\0\2\2\x28"] = "the server broke off: no parameters in common (alert 40)",
      } do
         local listener = peer.listen()
         local task = peer.task(open, listener.port, trusting())
         local p = listener:accept()
         p:want("a hello", function(buffer) return #buffer > 50 end)
         p:send(octets)
         p:shutdown()
         local c, why = task:values()
         assert.is_nil(c)
         assert.equal(words, why)
         assert.is_true(p:closed())
         listener:close()
      end
   end)

   it("gives up a handshake at its time, and sends and takes nothing after it but the handshake", function()
      local listener = peer.listen()
      local got
      local task = peer.task(function()
         local c = socket.connect("127.0.0.1", listener.port)
         ssl.wrap(c, trusting())
         c:settimeout(0.01)
         got = { { c:send("PASS secret\r\n") }, { c:receive() }, { c:dohandshake() }, { c:send("PASS secret\r\n") },
            { c:receive() }, { c:read(1) } }
         c:settimeout()
         local ok = c:dohandshake()
         return ok, c:send("x")
      end)
      local p = listener:accept()
      client.wait_for("the timeout", function() return got end)
      local none = "the TLS handshake is not done"
      assert.same({ { nil, none, 0 }, { nil, none, "" }, { nil, "timeout" }, { nil, none, 0 }, { nil, none, "" },
         { nil, none } }, got)
      p:fill()
      assert.is_nil(p.buffer:find("secret", 1, true))
      p.buffer = ""
      p:close()
      assert.is_nil((task:values()))
   end)

   it("goes on with a handshake after a timeout, and still looks at the certificate", function()
      for name, expected in pairs { server = true, named = false } do
         local listener = peer.listen()
         local timed_out
         local task = peer.task(function()
            local c = socket.connect("127.0.0.1", listener.port)
            ssl.wrap(c, trusting())
            c:settimeout(0.005)
            timed_out = select(2, c:dohandshake()) == "timeout"
            c:settimeout()
            return c:dohandshake()
         end)
         local sock = client.wait_for("a connection", function() return (listener.socket:accept()) end)
         client.wait_for("the timeout", function() return timed_out end)
         local p = client.wrap(sock)
         serve(p, name)
         assert.equal(expected, (task:values()) == true, name)
      end
   end)

   it("refuses octets that came in the clear before", function()
      local listener = peer.listen()
      local task = peer.task(function()
         local c = socket.connect("127.0.0.1", listener.port)
         c:send("STLS\r\n")
         local line = c:receive()
         ssl.wrap(c, trusting())
         return line, c:dohandshake()
      end)
      local p = listener:accept()
      assert.equal("STLS", p:line())
      p:send("+OK begin\r\n+OK injected\r\n")
      assert.same({ "+OK begin", nil, "octets that came in the clear wait to be read: they are not TLS", n = 3 },
         task:results())
      assert.is_true(p:closed())
   end)

   it("begins TLS where both said so (STLS of popd's own server)", function()
      local server = pki:serve(nil, nil, { "a" })
      local line = peer.run(function()
         local c = socket.connect("127.0.0.1", server:cget("port"))
         c:receive()
         c:send("STLS\r\n")
         c:receive()
         assert(ssl.wrap(c, trusting()):dohandshake())
         c:send("USER joe\r\nPASS secret\r\nSTAT\r\nQUIT\r\n")
         c:receive()
         c:receive()
         return c:receive()
      end)
      assert.equal("+OK 1 3", line)
   end)

   it("sends close_notify, and takes one for the end", function()
      local listener = peer.listen()
      local task = peer.task(function()
         local c = assert(open(listener.port, trusting()))
         c:send("bye\r\n")
         c:shutdown("send")
         return c:receive()
      end)
      local p = assert(serve(listener:accept(), "server"))
      assert.equal("bye", p:line())
      assert.is_true(p:closed())
      assert.equal("closed", p.why)
      p:close()
      assert.same({ nil, "closed", "", n = 3 }, task:results())
   end)

   it("says which file cannot be used", function()
      for _, params in ipairs { { cafile = "/no/such.pem" }, { cafile = pki:path("ca.key") },
         { certificate = "/no/such.pem", key = "/no/such.key" },
         { certificate = pki:path("me.pem"), key = pki:path("server.key") } } do
         local context, why = ssl.newcontext(trusting(params))
         assert.is_nil(context)
         local name = (params.cafile or params.certificate):gsub("%p", "%%%0")
         assert.truthy(why:find(name), why)
         local c = peer.run(socket.connect, "127.0.0.1", peer.listen().port)
         assert.same({ nil, why }, { ssl.wrap(c, trusting(params)) })
      end
   end)

   it("makes a context once, until it is to forget", function()
      local one = ssl.newcontext(trusting())
      assert.equal(one, ssl.newcontext(trusting()))
      assert.not_equal(one, ssl.newcontext(trusting { verify = "none" }))
      ssl.forget()
      assert.not_equal(one, ssl.newcontext(trusting()))
   end)

   it("raises a caller's mistake at the caller's line", function()
      for what, f in pairs {
         ['the mode is "client"'] = function() ssl.newcontext { mode = "server" } end,
         ["protocol 'sslv3' is none of"] = function() ssl.newcontext { protocol = "sslv3" } end,
         ["cafile is a string"] = function() ssl.newcontext { cafile = 1 } end,
         ["certificate and key go together"] = function() ssl.newcontext { key = "x" } end,
         ["a table of parameters"] = function() ssl.newcontext(1) end,
         ["a socket of popd.socket expected"] = function() ssl.wrap({}, {}) end,
         ['the mode is "client" here'] = function() ssl.wrap(socket.tcp(), { mode = "server" }) end,
      } do
         local ok, err = pcall(f)
         assert.is_false(ok)
         assert.truthy(err:find("^spec/lua/ssl_spec.lua:%d+: ") and err:find(what, 1, true), err)
      end
   end)

   it("works against openssl s_server", function()
      local port = peer.dead_port()
      local server = service.start { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-cert",
         pki:path("server.pem"),
         "-key", pki:path("server.key"), "-www" }
      server:wait_port(port)
      local answer, why = peer.run(popd.http, ("https://127.0.0.1:%d/"):format(port), { ca = pki:path("ca.pem") })
      server:stop()
      assert.equal(200, answer and answer.status, why)
      assert.truthy(answer.body:find("s_server", 1, true))
   end)

   it("makes popd.http verify, unless it is not to", function()
      local function ask(options, name, by)
         local listener = peer.listen()
         local task = peer.task(popd.http, ("https://127.0.0.1:%d/"):format(listener.port), options)
         local p = listener:accept()
         if serve(p, name or "server", nil, by) then
            p:fill()
            pcall(function()
               p:want("a request", function(buffer) return buffer:find("\r\n\r\n", 1, true) end)
               p:send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
            end)
         end
         listener:close()
         return task:values()
      end
      assert.equal("hi", ask({ ca = pki:path("ca.pem") }).body)
      assert.equal("hi", ask({ verify = false }).body)
      for _, case in ipairs { { {} }, { { ca = pki:path("ca.pem") }, "named" }, { { ca = pki:path("ca.pem") }, nil,
         other } } do
         local answer, why = ask(table.unpack(case, 1, 3))
         assert.is_nil(answer)
         assert.truthy(why:find("^https://127.0.0.1:%d+: the server's certificate is refused: "), why)
      end
   end)

   it("serves LuaSocket's http as ssl.https, which verifies too", function()
      local https = popd.require("ssl.https")
      local port = peer.dead_port()
      local server = service.start { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-cert",
         pki:path("server.pem"),
         "-key", pki:path("server.key"), "-www" }
      server:wait_port(port)
      local url = ("https://127.0.0.1:%d/"):format(port)
      local refused = { peer.run(https.request, url) }
      local parts = {}
      local taken = { peer.run(https.request, { url = url, cafile = pki:path("ca.pem"),
         sink = popd.require("ltn12").sink.table(parts) }) }
      local anybody = { peer.run(https.request, { url = url, verify = "none" }) }
      server:stop()
      assert.is_nil(refused[1])
      assert.truthy(tostring(refused[2]):find("certificate is refused", 1, true))
      assert.same({ 1, 200 }, { taken[1], taken[2] })
      assert.truthy(table.concat(parts):find("s_server", 1, true))
      assert.equal(200, anybody[2])
   end)

   it("resets nobody else where a handshake is broken off", function()
      local listener = peer.listen()
      local task = peer.task(open, listener.port, trusting())
      local p = listener:accept()
      peer.settle()
      task.job:cancel()
      assert.truthy(task:raised():find("cancelled", 1, true))
      assert.is_true(p:closed())
   end)
end)
