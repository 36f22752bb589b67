local client = require("support.client")
local core = require("popd.core")
local files = require("support.files")
local popd = require("popd")
local store = require("support.store")
local tls = require("support.tls")

local pki

local function start()
   pki = tls.new_pki()
   pki:make("server")
   pki:make("other")
end

local function stop()
   pki:remove()
end

local function serve(more, options, messages)
   local all = { tls = pki:pair("server", more) }
   for key, value in pairs(options or {}) do
      all[key] = value
   end
   return store.server(messages or { "a" }, all)
end

local function implicit(more, options, messages)
   local pair = { mode = "implicit" }
   for key, value in pairs(more or {}) do
      pair[key] = value
   end
   return (serve(pair, options, messages))
end

local function state(server)
   local ids = server:conn_list()
   return server:conn_state(ids[#ids])
end

local function capabilities(c)
   local _, lines = c:command("CAPA")
   local set = {}
   for _, line in ipairs(lines) do
      set[line] = true
   end
   return set
end

-- A client's first record, with the name it asks for, and methods of compression.
local function hello(name, compressions)
   local list = ("\0" .. (">s2"):pack(name))
   local extensions = (">I2s2"):pack(0, (">s2"):pack(list))
      .. "\0\10\0\4\0\2\0\x17" .. "\0\11\0\2\1\0" .. "\0\13\0\4\0\2\4\3"
   local body = "\3\3" .. core.random(32) .. "\0" .. "\0\2\xc0\x2b" .. ("s1"):pack(compressions or "\0")
      .. (">s2"):pack(extensions)
   return "\x16\3\1" .. (">s2"):pack("\1" .. (">s3"):pack(body))
end

local function failure()
   return client.wait_for("a failure in the log", function()
      return client.logged("a TLS handshake failed")[1]
   end)
end

describe("implicit TLS", function()
   lazy_setup(start)
   lazy_teardown(stop)
   after_each(client.finish)

   it("greets within it and serves a session", function()
      local c, greeting = tls.connect(implicit())
      assert.truthy(greeting:find("^%+OK"))
      c:login("joe", "secret")
      assert.equal("a\r\n", (c:fetch("RETR 1")))
      assert.truthy(c:command("QUIT"):find("^%+OK"))
      c:closed()
      assert.equal("closed", c.why) -- by close_notify
   end)

   it("offers no STLS and refuses it", function()
      local c = tls.connect(implicit())
      assert.is_nil(capabilities(c).STLS)
      assert.truthy(c:command("STLS"):find("^%-ERR"))
      c:login("joe", "secret")
   end)

   it("runs the connect hook within it", function()
      local seen
      local server = implicit(nil, { on = { connect = function(conn)
         seen = conn.tls.version
         return false, "not today"
      end } })
      local c, greeting = tls.connect(server)
      assert.truthy(greeting:find("not today", 1, true))
      c:closed()
      assert.truthy(seen:find("^TLSv1%.[23]$"))
   end)

   it("is told of by conn.tls and conn_state", function()
      local conn
      local server = implicit(nil, { on = { logged_in = function(view) conn = view.tls end } })
      assert.is_nil(server:conn_list()[1])
      tls.login(server, { sni = "pop.example.org" })
      local told = state(server).tls
      assert.same(told, conn)
      assert.truthy(told.version:find("^TLSv1%.[23]$"))
      assert.truthy(told.cipher:find("GCM") or told.cipher:find("CHACHA20"))
      assert.equal("pop.example.org", told.sni)
      assert.is_false(told.client)
   end)

   it("is still told of to the disconnect hook", function()
      local version
      local server = implicit(nil, { on = { disconnect = function(conn) version = conn.tls and conn.tls.version end } })
      tls.login(server):close()
      client.wait_for("the hook", function() return version end)
      assert.truthy(version:find("^TLSv1"))
   end)

   it("refuses without a word where there are too many", function()
      local server = implicit(nil, { max_connections = 1 })
      tls.connect(server)
      assert.same({ true, "" }, { client.open(server):closed() })
   end)

   for name, header in pairs {
      ["version 1"] = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 995\r\n",
      ["version 2"] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\12\192\0\2\7\198\51\100\1" .. (">I2I2"):pack(4711, 995),
   } do
      it("takes a PROXY header of " .. name .. " and the hello in one segment", function()
         local server = implicit(nil, { proxy = { "127.0.0.1" } })
         local c = tls.secure(client.open(server):send(header))
         assert.truthy(c:line():find("^%+OK"))
         assert.equal("192.0.2.7", state(server).remotehost)
         c:login("joe", "secret")
      end)

      it("takes a PROXY header of " .. name .. " octet by octet", function()
         local server = implicit(nil, { proxy = { "127.0.0.1" } })
         local c = client.open(server)
         for octet in header:gmatch(".") do
            c:send(octet)
            popd.step(0)
         end
         assert.truthy(tls.secure(c):line():find("^%+OK"))
      end)
   end

   it("takes a hello octet by octet", function()
      local server = implicit()
      local relay = client.open(server)
      relay:send("\x16")
      popd.step(0)
      relay:send("\3\1")
      popd.step(0)
      assert.is_true(relay:silent())
      tls.connect(server)
   end)
end)

describe("STLS", function()
   lazy_setup(start)
   lazy_teardown(stop)
   after_each(client.finish)

   it("is offered, then makes the connection a TLS one", function()
      local server = serve()
      local c = client.connect(server)
      assert.is_true(capabilities(c).STLS)
      assert.is_false(state(server).tls)
      tls.stls(c)
      assert.is_nil(capabilities(c).STLS)
      assert.truthy(state(server).tls.version:find("^TLSv1"))
      c:login("joe", "secret")
      assert.equal("a\r\n", (c:fetch("RETR 1")))
   end)

   it("is not offered where there is no certificate", function()
      local c = client.connect((store.server({})))
      assert.is_nil(capabilities(c).STLS)
      assert.truthy(c:command("STLS"):find("^%-ERR"))
   end)

   it("a second time is refused", function()
      local c = tls.start((serve()))
      assert.truthy(c:command("STLS"):find("^%-ERR"))
      c:login("joe", "secret")
   end)

   it("in TRANSACTION is refused", function()
      local c = client.login((serve()))
      assert.is_nil(capabilities(c).STLS)
      assert.truthy(c:command("STLS"):find("^%-ERR"))
      assert.equal("+OK 1 3", c:command("STAT"))
   end)

   it("with an argument is refused", function()
      local c = client.connect((serve()))
      assert.truthy(c:command("STLS now"):find("^%-ERR"))
      c:login("joe", "secret")
   end)

   it("drops what came behind it in the clear, and logs so", function()
      local server, s = serve()
      local c = client.connect(server)
      local behind = "USER joe\r\nPASS secret\r\nDELE 1\r\n"
      c:send("STLS\r\n" .. behind)
      assert.truthy(c:line():find("^%+OK"))
      tls.secure(c)
      assert.truthy(c:command("PASS secret"):find("^%-ERR"))
      assert.equal("", c.buffer)
      assert.equal("auth", state(server).state)
      assert.same({}, s.calls)
      assert.equal(1, #client.logged("behind STLS was dropped.*octets=" .. #behind))
   end)

   it("drops a part of a line behind it, also of one that is too long", function()
      for _, part in ipairs { "PA", ("x"):rep(300) } do
         local c = client.connect((serve()))
         c:send("STLS\r\n" .. part)
         assert.truthy(c:line():find("^%+OK"))
         tls.secure(c)
         c:login("joe", "secret")
         assert.truthy(c:command("QUIT"):find("^%+OK"))
         c:closed()
      end
   end)

   it("never runs what comes in the clear in the next segment", function()
      local server, s = serve()
      local c = client.connect(server)
      assert.truthy(c:command("STLS"):find("^%+OK"))
      c:send("USER joe\r\nPASS secret\r\n")
      local _, rest = c:closed()
      assert.is_nil(rest:find("+OK", 1, true))
      assert.truthy(failure():find("does not speak TLS", 1, true), failure())
      assert.same({}, s.calls)
   end)

   it("makes the login begin anew", function()
      local c = client.connect((serve()))
      c:command("USER joe")
      tls.stls(c)
      assert.truthy(c:command("PASS secret"):find("^%-ERR"))
      c:login("joe", "secret")
   end)

   it("keeps the stamp of APOP", function()
      local c, greeting = client.connect((serve()))
      tls.stls(c)
      local digest = core.digest("MD5", greeting:match("<.*>") .. "secret")
      local hex = digest:gsub(".", function(octet) return ("%02x"):format(octet:byte()) end)
      assert.truthy(c:command("APOP joe " .. hex):find("^%+OK"))
   end)

   it("opens the way for passwords where plain ones are refused", function()
      local server = serve(nil, { proxy = { "127.0.0.1" } })
      local c = client.open(server):send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 110\r\n")
      c:line()
      assert.is_nil(capabilities(c).USER)
      assert.truthy(c:command("USER joe"):find("STLS", 1, true))
      assert.truthy(c:command("PASS secret"):find("^%-ERR"))
      tls.stls(c)
      assert.is_true(capabilities(c).USER)
      c:login("joe", "secret")
      assert.equal("192.0.2.7", state(server).remotehost)
   end)

   it('opens it from everywhere where plain_login = "tls"', function()
      local c = client.connect((serve(nil, { plain_login = "tls" })))
      assert.truthy(c:command("USER joe"):find("^%-ERR"))
      tls.stls(c)
      c:login("joe", "secret")
   end)
end)

describe("where TLS is served:", function()
   lazy_setup(start)
   lazy_teardown(stop)
   after_each(client.finish)

   it("a further listener takes the server's certificate, or none, or its own", function()
      local server = serve()
      local secure = server:listen { port = 0, tls = "implicit" }
      local plain = server:listen { port = 0, tls = false }
      local own = server:listen { port = 0, tls = pki:pair("other") }
      local both = server:listen { port = 0, tls = pki:pair("other", { mode = "implicit" }) }
      assert.equal("server", tls.name(tls.connect(secure.port)))
      assert.is_nil(capabilities(client.connect(plain.port)).STLS)
      assert.equal("other", tls.name(tls.start(own.port)))
      assert.equal("other", tls.name(tls.connect(both.port)))
      assert.equal("server", tls.name(tls.start(server)))
   end)

   it("a listener is opened with up, too", function()
      local server = client.adopt(popd.new { port = 0, address = "127.0.0.1", tls = pki:pair("server") })
      local listener = server:listen { port = 0, tls = "implicit" }
      server:up()
      assert.equal("server", tls.name(tls.connect(listener.port)))
      server:down()
      server:up()
      assert.equal("server", tls.name(tls.connect(listener.port)))
   end)

   it("a mode without a certificate raises, at once or with up", function()
      local server = client.server()
      local ok, why = pcall(server.listen, server, { port = 0, tls = "implicit" })
      assert.is_false(ok)
      assert.truthy(why:find("no certificate", 1, true))
      server:down()
      server:listen { port = 0, tls = "stls" }
      assert.is_false((pcall(server.up, server)))
   end)

   it("popd.listen.tls is a value for socket, alone and around a proxy's", function()
      local pair = pki:pair("server")
      local one = store.server({ "a" }, { socket = popd.listen.tls(pair) })
      assert.equal("server", tls.name(tls.connect(one)))
      local two = store.server({ "a" }, { socket = popd.listen.tls(pki:pair("server", { mode = "stls" })) })
      assert.equal("server", tls.name(tls.start(two)))
      for _, socket in ipairs {
         popd.listen.tls(pair, popd.listen.proxy({ "127.0.0.1" })),
         popd.listen.proxy({ "127.0.0.1" }, popd.listen.tls(pair)),
      } do
         local c = client.open((store.server({}, { socket = socket })))
         c:send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 995\r\n")
         assert.truthy(tls.secure(c):line():find("^%+OK"))
      end
   end)

   local wrong = {
      { "a.pem", "a table" },
      { {}, "needs cert and key" },
      { { cert = "a" }, "needs cert and key" },
      { { cert = "a", key = "b", mode = "starttls" }, '"stls" or "implicit"' },
      { { cert = "a", key = "b", min = "1.1" }, '"1.2" or "1.3"' },
      { { cert = "a", key = "b", sni = { ["a b"] = {} } }, "is not a host name" },
      { { cert = "a", key = "b", sni = { ["a.b"] = { cert = "a" } } }, "sni%['a.b'%] needs cert and key" },
      { { cert = "a", key = "b", ciphers = {} }, "ciphers is a list" },
      { { cert = "a", key = "b", ciphers = { "A:B" } }, "is no name" },
      { { cert = "a", key = "b", client_ca = true }, "client_ca is a path" },
      { { cert = "a\0b", key = "b" }, "needs cert and key" },
      { { cert = "a", key = "b", prot = "1.2" }, "no key 'prot'" },
   }
   for i, case in ipairs(wrong) do
      it(("wrong value %d of the option is refused: %s"):format(i, case[2]), function()
         local ok, why = pcall(popd.new, { tls = case[1] })
         assert.is_false(ok)
         assert.truthy(why:find(case[2]), why)
         assert.truthy(why:find("option 'tls'", 1, true), why)
         local mine
         mine, why = pcall(popd.listen.tls, case[1])
         assert.is_false(mine)
         assert.truthy(why:find(case[2]), why)
      end)
   end
end)

describe("a certificate or key", function()
   lazy_setup(function()
      start()
      pki:make("old", { expired = true })
      files.put(pki:path("text.pem"), "this is no certificate\n")
      files.put(pki:path("empty.pem"), "")
      files.run("openssl ec -in %s -aes128 -passout pass:secret -out %s 2>/dev/null", pki:path("server.key"),
         pki:path("sec1.key"))
      files.run("openssl pkcs8 -topk8 -in %s -passout pass:secret -out %s", pki:path("server.key"),
         pki:path("pkcs8.key"))
      local cert = files.text(pki:path("server.pem"))
      files.put(pki:path("chain.pem"), cert .. "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
      files.put(pki:path("behind.pem"), files.text(pki:path("ca.pem")) .. cert)
      files.put(pki:path("large.pem"), ("x"):rep(1100000))
   end)
   lazy_teardown(stop)
   after_each(client.finish)

   local cases = {
      -- cert, key, what the error names
      { "absent.pem", "server.key", "absent.pem cannot be read: No such file" },
      { "server.pem", "absent.key", "absent.key cannot be read: No such file" },
      { "text.pem", "server.key", "text.pem holds no certificate" },
      { "server.pem", "text.pem", "text.pem holds no private key" },
      { "empty.pem", "server.key", "empty.pem holds no certificate" },
      { "server.pem", "empty.pem", "empty.pem holds no private key" },
      { ".", "server.key", "cannot be read: Is a directory" },
      { "server.pem", ".", "cannot be read: Is a directory" },
      { "large.pem", "server.key", "larger than 1 MB" },
      { "server.pem", "other.key", "other.key is not the key of the certificate .*server.pem" },
      { "behind.pem", "server.key", "server.key is not the key of the certificate .*behind.pem" },
      { "server.pem", "sec1.key", "sec1.key is encrypted" },
      { "server.pem", "pkcs8.key", "pkcs8.key is encrypted" },
      { "chain.pem", "server.key", "chain.pem: 1 of its certificates" },
   }
   for _, case in ipairs(cases) do
      it(("%s with %s makes up raise, and nothing is opened"):format(case[1], case[2]), function()
         local server = client.adopt(popd.new {
            port = 0, address = "127.0.0.1", tls = { cert = pki:path(case[1]), key = pki:path(case[2]) },
            socket = function() error("opened") end,
         })
         local ok, why = pcall(server.up, server)
         assert.is_false(ok)
         assert.truthy(why:find(case[3]), why)
         assert.equal("down", server:cget("state"))
      end)
   end

   it("of a further listener or of an SNI name is checked alike", function()
      local bad = { cert = pki:path("text.pem"), key = pki:path("server.key") }
      local server = serve()
      local ok, why = pcall(server.listen, server, { port = 0, tls = bad })
      assert.is_false(ok)
      assert.truthy(why:find("text.pem", 1, true))
      ok, why = pcall(implicit, { sni = { ["a.example"] = bad } })
      assert.is_false(ok)
      assert.truthy(why:find("text.pem", 1, true))
      ok, why = pcall(client.server, { socket = popd.listen.tls(bad) })
      assert.is_false(ok)
      assert.truthy(why:find("text.pem", 1, true))
      ok, why = pcall(implicit, { client_ca = pki:path("text.pem") })
      assert.is_false(ok)
      assert.truthy(why:find("text.pem", 1, true))
   end)

   it("that has expired is served with all the same, and told of", function()
      local c = tls.connect((store.server({}, { tls = pki:pair("old", { mode = "implicit" }) })))
      assert.equal("old", tls.name(c))
      assert.equal(1, #client.logged("warning.*has expired.*old.pem"))
   end)

   it("that everybody may read is told of", function()
      files.run("chmod 644 %s", pki:path("server.key"))
      serve()
      files.run("chmod 600 %s", pki:path("server.key"))
      assert.equal(1, #client.logged("warning.*private key can be read by everybody.*server.key"))
   end)

   it("of RSA, and a chain, are served", function()
      pki:make("middle", { authority = true })
      local pair = pki:make("leaf", { kind = "rsa", by = "middle", names = "DNS:localhost" })
      files.put(pki:path("leaf.pem"), files.text(pki:path("leaf.pem")) .. files.text(pki:path("middle.pem")))
      local server = client.server { tls = { cert = pair.cert, key = pair.key, mode = "implicit" } }
      local c = assert(tls.open(server, { verify = "peer", cafile = pki:path("ca.pem") }))
      assert.truthy(c:line():find("^%+OK"))
   end)
end)

describe("a handshake that fails", function()
   lazy_setup(start)
   lazy_teardown(stop)
   after_each(client.finish)

   local function weak(protocol)
      return { protocol = protocol, ciphers = "ALL:@SECLEVEL=0" }
   end

   local cases = {
      { "because it is no TLS", "does not speak TLS", function(server)
         client.open(server):send("USER joe\r\nPASS secret\r\n"):closed()
      end },
      { "because it is HTTP", "does not speak TLS", function(server)
         client.open(server):send("GET / HTTP/1.1\r\n\r\n"):closed()
      end },
      { "because of TLS 1.0", "no version of TLS", function(server)
         assert.is_nil((tls.open(server, weak("tlsv1"))))
      end },
      { "because of TLS 1.1", "no version of TLS", function(server)
         assert.is_nil((tls.open(server, weak("tlsv1_1"))))
      end },
      { "because of weak suites", "no cipher suite", function(server)
         assert.is_nil((tls.open(server, { protocol = "tlsv1_2", ciphers = "AES128-SHA:AES256-GCM-SHA384" })))
      end },
      { "because of another protocol's ALPN", "ALPN", function(server)
         assert.is_nil((tls.open(server, { alpn = { "imap" } })))
      end },
      { "because the client leaves before it", "the client left", function(server)
         client.open(server):close()
      end },
      { "because the client leaves within it", "the client left", function(server)
         client.open(server):send("\x16\3\1"):close()
      end },
      { "because the client sends no more", "the client left", function(server)
         client.open(server):send("\x16\3\1"):shutdown():closed()
      end },
      { "because the client does not trust the certificate", "does not know who signed", function(server)
         assert.is_nil((tls.open(server, { verify = "peer", cafile = pki:path("other.pem") })))
      end },
      { "because the client is slow", "took too long", function(server)
         client.open(server):send("\x16\3"):closed()
      end, { handshake_timeout = 0.05 } },
      { "because the client says nothing", "took too long", function(server)
         client.open(server):closed()
      end, { handshake_timeout = 0.05 } },
   }
   for _, case in ipairs(cases) do
      it(case[1] .. " is one line in the log, and disturbs nobody", function()
         local server = implicit(nil, case[4])
         local other = tls.login(server)
         case[3](server)
         local line = failure()
         assert.truthy(line:find(case[2], 1, true), line)
         assert.truthy(line:find("^warning .*peer=127%.0%.0%.1"), line)
         client.wait_for("its end", function() return #server:conn_list() == 1 end)
         assert.equal(1, #client.logged("TLS handshake"))
         assert.equal("+OK 1 3", other:command("STAT"))
         tls.connect(server)
      end)
   end

   it("after STLS ends the connection alike", function()
      local server = serve()
      local c = client.connect(server)
      assert.is_nil((tls.stls(c, weak("tlsv1_1"))))
      assert.truthy(failure():find("no version of TLS", 1, true))
      client.wait_for("its end", function() return #server:conn_list() == 0 end)
   end)

   it("may take a name of any octets", function()
      local server = implicit { sni = { ["a.example"] = pki:pair("other"), ["*.b.example"] = pki:pair("other") } }
      for _, name in ipairs {
         "a.example\0", "a.example\0" .. ("x"):rep(3000), "\0", ".b.example", "x.b.example\0x", ("y"):rep(3000), "",
         "\255\254",
      } do
         local c = client.open(server):send(hello(name))
         c:want("an answer", function(buffer) return #buffer > 5 end)
         c:close()
      end
      tls.connect(server)
   end)

   it("is not held up by a client that sends warnings without end", function()
      local server = implicit()
      local c = client.open(server):send(hello("a.example"))
      c:want("an answer", function(buffer) return #buffer > 5 end)
      local alerts, sent = ("\x15\3\3\0\2\1\x5a"):rep(10000), 0
      repeat
         local last, _, partial = c.socket:send(alerts)
         sent = sent + (last or partial)
      until not last
      local turns = 0
      popd.spawn(function()
         repeat
            turns = turns + 1
            popd.sleep(0)
         until turns == 1000000 or not server:conn_list()[1]
      end)
      local before = turns
      client.wait_for("room", function()
         return (c.socket:send("\x15\3\3\0\2\1\x5a"))
      end)
      assert.is_true(sent > 100000)
      c:close()
      client.wait_for("its end", function() return not server:conn_list()[1] end)
      assert.is_true(turns - before > sent / 7 / 64, ("%d turns, %d octets"):format(turns - before, sent))
   end)
end)

describe("SNI", function()
   lazy_setup(function()
      start()
      for _, name in ipairs { "exact", "wild" } do
         pki:make(name)
      end
   end)
   lazy_teardown(stop)
   after_each(client.finish)

   local cases = {
      { "pop.example.org", "exact" },
      { "POP.Example.ORG", "exact" },
      { "mail.example.org", "wild" },
      { "MAIL.example.org", "wild" },
      { "a.b.example.org", "server" },
      { "example.org", "server" },
      { "pop.example.orgx", "server" },
      { "pop.example.or", "server" },
      { "pop.example.net", "server" },
      { nil, "server" },
   }
   for _, case in pairs(cases) do
      it(("%s is shown the certificate %s"):format(case[1], case[2]), function()
         local server = implicit {
            sni = { ["Pop.example.org"] = pki:pair("exact"), ["*.Example.org"] = pki:pair("wild") },
         }
         local c = tls.connect(server, { sni = case[1] })
         assert.equal(case[2], tls.name(c))
         assert.equal(case[1], state(server).tls.sni)
      end)
   end
end)

describe("what is negotiated:", function()
   lazy_setup(start)
   lazy_teardown(stop)
   after_each(client.finish)

   it("ALPN pop3, where the client offers it", function()
      local server = implicit()
      assert.equal("pop3", tls.connect(server, { alpn = { "imap", "pop3" } }).socket:getalpn())
      assert.is_nil(tls.connect(server).socket:getalpn())
   end)

   for _, name in ipairs {
      "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
   } do
      it("the cipher " .. name .. ", where the option asks for it", function()
         local server = implicit { ciphers = { name } }
         assert.equal("ECDHE-ECDSA-AES256-GCM-SHA384", tls.connect(server).socket:info("cipher"))
         assert.is_nil((tls.open(server, { protocol = "tlsv1_2", ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256" })))
      end)
   end

   it("no TLS 1.3 where none of the ciphers is of it; together with min a clear error", function()
      local old = { "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" }
      local c = tls.connect(implicit { ciphers = old })
      assert.equal("TLSv1.2", c.socket:info("protocol"))
      local ok, why = pcall(implicit, { ciphers = old, min = "1.3" })
      assert.is_false(ok)
      assert.truthy(why:find("none of the ciphers is of TLS 1.3", 1, true) or why:find("ends at TLS 1.2", 1, true), why)
   end)

   it("no cipher that mbedTLS does not have: the error names it", function()
      local ok, why = pcall(implicit, { ciphers = { "TLS_NO_SUCH_THING" } })
      assert.is_false(ok)
      assert.truthy(why:find("TLS_NO_SUCH_THING", 1, true), why)
   end)

   it("no compression, though the client offers it", function()
      local c = client.open(implicit()):send(hello("a.example", "\1\0"))
      local record = c:octets(5 + 4 + 2 + 32 + 1 + 32 + 2 + 1)
      assert.equal(2, record:byte(6)) -- ServerHello
      local id = record:byte(5 + 4 + 2 + 32 + 1)
      assert.equal(0, record:byte(5 + 4 + 2 + 32 + 1 + id + 2 + 1))
   end)

   it("TLS 1.3 only where that is asked for; without it a clear error", function()
      local ok, server = pcall(implicit, { min = "1.3" })
      if not ok then
         assert.truthy(server:find("ends at TLS 1.2", 1, true), server)
         return
      end
      assert.equal("TLSv1.3", tls.connect(server).socket:info("protocol"))
      assert.is_nil((tls.open(server, { protocol = "tlsv1_2" })))
      assert.truthy(failure():find("no version of TLS", 1, true), failure())
      tls.connect(implicit { min = "1.3", ciphers = { "TLS_AES_256_GCM_SHA384" } })
   end)

   it("TLS 1.2 with whom has no more", function()
      local server = implicit()
      local c = tls.connect(server, { protocol = "tlsv1_2" })
      assert.equal("TLSv1.2", c.socket:info("protocol"))
      assert.equal("TLSv1.2", state(server).tls.version)
      c:login("joe", "secret")
   end)
end)

describe("new certificates", function()
   local pair

   lazy_setup(start)
   lazy_teardown(stop)
   before_each(function()
      pair = { cert = pki:path("now.pem"), key = pki:path("now.key") }
   end)
   after_each(client.finish)

   local function put(name)
      files.run("cp %s %s; cp %s %s", pki:path(name .. ".pem"), pair.cert, pki:path(name .. ".key"), pair.key)
   end

   it("are served with from the next handshake on, and 200 open sessions go on", function()
      put("server")
      local text = ("a line of a message\r\n"):rep(2000)
      local server = client.server {
         tls = { cert = pair.cert, key = pair.key, mode = "implicit" }, max_per_address = 300, max_per_user = 300,
         auth = store.auth, storage = store.new({ text }, { lock = false, unlock = false }).storage,
      }
      local sessions = {}
      for i = 1, 200 do
         sessions[i] = tls.login(server)
      end
      for i = 1, 100 do
         sessions[i]:send("RETR 1\r\n")
      end
      popd.step(0)
      put("other")
      assert.is_true(server:reload_tls())
      assert.equal("other", tls.name(tls.connect(server)))
      for i = 101, 200 do
         sessions[i]:send("RETR 1\r\n")
      end
      for i = 1, 200 do
         assert.truthy(sessions[i]:line():find("^%+OK"))
         assert.is_true(sessions[i]:body() == text)
         assert.truthy(sessions[i]:command("QUIT"):find("^%+OK"))
      end
   end)

   it("that are bad are refused and logged once, and the old ones serve on", function()
      put("server")
      local server = client.server { tls = pair }
      server:listen { port = 0, tls = "implicit" }
      files.put(pair.key, "nonsense")
      local ok, why = server:reload_tls()
      assert.is_nil(ok)
      assert.truthy(why:find("now.key", 1, true))
      assert.equal(1, #client.logged("error.*was not taken.*now.key"))
      assert.equal("server", tls.name(tls.start(server)))
      put("other")
      assert.is_true(server:reload_tls())
      assert.equal("other", tls.name(tls.start(server)))
   end)

   it("are taken by a listener of popd.listen.tls and of listen, too", function()
      put("server")
      local server = client.server { socket = popd.listen.tls(pair) }
      local further = server:listen { port = 0, tls = { cert = pair.cert, key = pair.key, mode = "implicit" } }
      put("other")
      assert.equal("server", tls.name(tls.connect(server)))
      assert.is_true(server:reload_tls())
      assert.equal("other", tls.name(tls.connect(server)))
      assert.equal("other", tls.name(tls.connect(further.port)))
      files.put(pair.cert, "")
      assert.is_nil((server:reload_tls()))
      assert.equal("other", tls.name(tls.connect(server)))
      assert.equal("other", tls.name(tls.connect(further.port)))
   end)

   it("of popd.listen.tls alone are refused with the reason, too", function()
      put("server")
      local server = client.server { socket = popd.listen.tls(pair) }
      files.put(pair.key, "nonsense")
      local ok, why = server:reload_tls()
      assert.is_nil(ok)
      assert.truthy(why:find("now.key", 1, true))
      assert.equal(1, #client.logged("error.*was not taken.*now.key"))
      assert.equal(0, #client.logged("were read again"))
   end)

   it("may come by configure, which changes nothing if they are bad", function()
      local server = implicit()
      server:configure { tls = pki:pair("other", { mode = "implicit" }) }
      assert.equal("other", tls.name(tls.connect(server)))
      local ok, why = pcall(server.configure, server, { max_per_user = 3, tls = { cert = "/nonexistent", key = "/x" } })
      assert.is_false(ok)
      assert.truthy(why:find("/nonexistent", 1, true))
      assert.equal(10, server:cget("max_per_user"))
      assert.equal("other", tls.name(tls.connect(server)))
   end)

   it("may come to a server that had none, and change the mode", function()
      local server = store.server({ "a" })
      server:configure { tls = pki:pair("server") }
      tls.start(server):login("joe", "secret")
      server:configure { tls = pki:pair("server", { mode = "implicit" }) }
      tls.connect(server)
   end)

   it("cannot go while the server is up; where there are none false is fine", function()
      local server = serve()
      local ok, why = pcall(server.configure, server, { tls = false })
      assert.is_false(ok)
      assert.truthy(why:find("take it down first", 1, true), why)
      assert.truthy(why:find("tls_spec", 1, true) or why:find("^option"), why)
      tls.start(server)
      server:down()
      server:configure { tls = false }
      server:up()
      server:configure { tls = false }
      assert.is_nil(capabilities(client.connect(server)).STLS)
   end)

   it("do not disturb a handshake under way", function()
      put("server")
      local server = client.server { tls = { cert = pair.cert, key = pair.key, mode = "implicit" } }
      local half = client.open(server)
      half:send("\x16\3\1")
      popd.step(0)
      put("other")
      server:reload_tls()
      half:close()
      assert.truthy(failure():find("the client left", 1, true))
      assert.equal("other", tls.name(tls.connect(server)))
   end)
end)

describe("tickets", function()
   lazy_setup(start)
   lazy_teardown(stop)
   after_each(client.finish)

   -- A session by openssl, which keeps its ticket in a file: how it began.
   local function session(server, more)
      local out = tls.beside("printf 'QUIT\\r\\n' | openssl s_client -connect 127.0.0.1:%s -ign_eof " .. more,
         server:cget("port"))
      assert.truthy(out:find("+OK bye", 1, true), out)
      return assert(out:match("\n(%a+), TLSv1%.%d, Cipher is"), out)
   end

   local function kept(server, more)
      return session(server, "-sess_out " .. pki:path("session") .. (more or ""))
   end

   local function again(server, more)
      return session(server, "-sess_in " .. pki:path("session") .. (more or ""))
   end

   local function key_file(text)
      return files.put(pki:path("tickets"), text)
   end

   for _, version in ipairs { "", " -tls1_2" } do
      it("bring a session back" .. version, function()
         local server = implicit()
         assert.equal("New", kept(server, version))
         assert.equal("Reused", again(server, version))
      end)

      it("live on over a reload" .. version, function()
         local server = implicit()
         kept(server, version)
         assert.is_true(server:reload_tls())
         assert.equal("Reused", again(server, version))
      end)

      it("of another server are not taken, unless both have the same ticket_keys" .. version, function()
         local keys = key_file(core.random(48))
         kept(implicit(), version)
         assert.equal("New", again(implicit(), version))
         kept(implicit { ticket_keys = keys }, version)
         assert.equal("Reused", again(implicit { ticket_keys = keys }, version))
         assert.equal("New", again(implicit(), version))
      end)
   end

   it("of an older key of the file are taken, of one that is gone are not", function()
      local old, new = core.random(48), core.random(48)
      local server = implicit { ticket_keys = key_file(old) }
      kept(server)
      key_file(new .. old)
      assert.is_true(server:reload_tls())
      assert.equal("Reused", again(server))
      key_file(new)
      assert.is_true(server:reload_tls())
      assert.equal("New", again(server))
   end)

   it("that were altered are no ticket", function()
      local server = implicit { ticket_keys = key_file(("k"):rep(48)) }
      kept(server, " -tls1_2")
      key_file(("k"):rep(16) .. ("x"):rep(32))
      assert.is_true(server:reload_tls())
      assert.equal("New", again(server, " -tls1_2"))
   end)

   for _, size in ipairs { 0, 47, 49, 9 * 48 } do
      it(("a file of %d octets is refused"):format(size), function()
         local ok, why = pcall(implicit, { ticket_keys = key_file(("x"):rep(size)) })
         assert.is_false(ok)
         assert.truthy(why:find("tickets: ticket keys are 1 to 8 times 48 .*; it has " .. size), why)
      end)
   end

   it("are not given where clients show certificates", function()
      local server = implicit { client_ca = pki:path("ca.pem") }
      kept(server)
      assert.equal("New", again(server))
   end)
end)

describe("a client's certificate", function()
   lazy_setup(function()
      start()
      pki:make("joe", { names = "email:joe@example.org,DNS:joe.example.org,email:j@example.org,IP:192.0.2.1" })
      pki:make("bare", { subject = "/O=nobody" })
      files.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=joe"
         .. " -keyout %s -out %s 2>/dev/null", pki:path("forged.key"), pki:path("forged.pem"))
      pki:make("late", { expired = true })
   end)
   lazy_teardown(stop)
   after_each(client.finish)

   local function with(name)
      return { certificate = pki:path(name .. ".pem"), key = pki:path(name .. ".key") }
   end

   it("is told of by its names", function()
      local server = implicit { client_ca = pki:path("ca.pem") }
      tls.login(server, with("joe"))
      local told = state(server).tls.client
      local pipe = assert(io.popen("openssl x509 -in " .. pki:path("joe.pem") .. " -noout -fingerprint -sha256"))
      local fingerprint = pipe:read("a"):match("=(.*)\n"):gsub(":", ""):lower()
      pipe:close()
      assert.same({
         subject = "CN=joe", name = "joe", email = { "joe@example.org", "j@example.org" }, dns = { "joe.example.org" },
         fingerprint = fingerprint,
      }, told)
   end)

   it("without a CN has no name", function()
      local server = implicit { client_ca = pki:path("ca.pem") }
      tls.connect(server, with("bare"))
      local told = state(server).tls.client
      assert.equal("O=nobody", told.subject)
      assert.is_nil(told.name)
   end)

   it("may be shown after STLS", function()
      local server = serve { client_ca = pki:path("ca.pem") }
      tls.start(server, with("joe")):login("joe", "secret")
      assert.equal("joe", state(server).tls.client.name)
   end)

   for _, name in ipairs { "forged", "late" } do
      it("that is not good (" .. name .. ") makes no client", function()
         local server = implicit { client_ca = pki:path("ca.pem") }
         tls.login(server, with(name))
         assert.is_false(state(server).tls.client)
      end)
   end

   it("need not be shown", function()
      local server = implicit { client_ca = pki:path("ca.pem") }
      tls.login(server)
      assert.is_false(state(server).tls.client)
   end)

   it("is not asked for where there is no client_ca", function()
      local server = implicit()
      tls.login(server, with("joe"))
      assert.is_false(state(server).tls.client)
   end)
end)

describe("octets over TLS", function()
   local helper = assert(package.searchpath("support.tls", package.path)):gsub("tls%.lua$", "tls_talk.py")

   lazy_setup(start)
   lazy_teardown(stop)
   after_each(client.finish)

   -- 20 MB in which no part is like another.
   local function bulk()
      local lines = {}
      for i = 1, 400000 do
         lines[i] = ("%08d %s\r\n"):format(i, ("."):rep(i % 79))
      end
      return table.concat(lines)
   end

   it("arrive as they are, 20 MB in one message", function()
      local text = bulk()
      local c = tls.login(implicit(nil, nil, { text }))
      c:send("RETR 1\r\n")
      assert.truthy(c:line():find("^%+OK"))
      assert.is_true(c:bulk(#text) == text)
      assert.equal(".", c:line())
      assert.truthy(c:command("QUIT"):find("^%+OK"))
   end)

   it("wait for a client that reads slowly, and go on where they stopped", function()
      local text = bulk():sub(1, 6000001)
      local server = implicit(nil, nil, { text })
      local c = tls.secure(client.open(server, 4096))
      c:line()
      c:login("joe", "secret")
      c:send("RETR 1\r\nNOOP\r\n")
      for _ = 1, 3 do
         local last
         client.wait_for("the server to be stuck", function()
            local now = state(server).bytes_out
            local same = now == last
            last = now
            return same
         end)
         assert.is_true(last < #text)
         local data, _, part = c.socket:receive(700001)
         c.buffer = c.buffer .. (data or part)
      end
      assert.truthy(c:line():find("^%+OK"))
      text = store.wire(text)
      assert.is_true(c:bulk(#text) == text)
      assert.equal(".", c:line())
      assert.truthy(c:line():find("^%+OK"))
   end)

   it("are many small messages as well as one large one", function()
      local messages, commands = {}, {}
      for i = 1, 500 do
         messages[i] = ("Subject: %d\r\n\r\n%s\r\n"):format(i, ("x"):rep(i % 50))
         commands[i] = "RETR " .. i .. "\r\n"
      end
      local c = tls.login(implicit(nil, nil, messages))
      c:send(table.concat(commands))
      for i = 1, 500 do
         assert.truthy(c:line():find("^%+OK"))
         assert.equal(messages[i], c:body())
      end
   end)

   local function talk(server, how, commands)
      local input = files.put(pki:path("input"), commands)
      local out = tls.beside("python3 %s %s %s <%s >%s", helper, server:cget("port"), how, input, pki:path("output"))
      return files.text(pki:path("output")), out
   end

   for _, how in ipairs { "whole", "octets" } do
      it("may be 600 commands, " .. (how == "whole" and "all in one record" or "each octet a record"), function()
         local server = implicit(nil, { max_bad_commands = false })
         local commands = "USER joe\r\nPASS secret\r\n" .. ("NOOP\r\nSTAT\r\nLIST 1\r\n"):rep(200) .. "QUIT\r\n"
         local replies, said = talk(server, how, commands)
         assert.truthy(said:find("records", 1, true), said)
      local _, count = replies:gsub("\r\n", "")
         assert.equal(1 + 2 + 600 + 1, count)
         local _, same = replies:gsub("\r\n%+OK 1 3\r\n%+OK 1 3", "")
         assert.equal(200, same)
         assert.truthy(replies:find("+OK bye\r\n$"))
         assert.truthy(said:find("end=close_notify", 1, true), said)
      end)
   end

   it("are answered behind a client's close_notify, but for a command that it cut", function()
      local server, s = serve({ mode = "implicit" }, nil, { "a", "b" })
      local replies, said = talk(server, "whole", "USER joe\r\nPASS secret\r\nSTAT\r\nDELE 1\r\nQUIT")
      assert.truthy(replies:find("+OK 2 6\r\n+OK", 1, true), replies)
      assert.is_nil(replies:find("bye", 1, true))
      assert.truthy(said:find("end=close_notify", 1, true), said)
      assert.same({ "a", "b" }, s.messages)
   end)

   it("are answered behind a bare FIN, but for a command that it cut", function()
      local server, s = serve({ mode = "implicit" }, nil, { "a", "b" })
      local c = tls.connect(server)
      c:send("USER joe\r\nPASS secret\r\nSTAT\r\nDELE 1\r\nQUIT")
      tls.cut(c)
      local _, rest = c:closed()
      assert.truthy(rest:find("+OK 2 6\r\n+OK", 1, true), rest)
      assert.is_nil(rest:find("bye", 1, true))
      assert.same({ "a", "b" }, s.messages)
   end)

   it("of QUIT are answered behind a bare FIN", function()
      local server, s = serve({ mode = "implicit" }, nil, { "a", "b" })
      local c = tls.connect(server)
      c:send("USER joe\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n")
      tls.cut(c)
      local _, rest = c:closed()
      assert.truthy(rest:find("bye\r\n$"), rest)
      assert.same({ "b" }, s.messages)
   end)

   it("fill their records", function()
      local text = bulk()
      local server = implicit(nil, nil, { text })
      local replies, said = talk(server, "whole", "USER joe\r\nPASS secret\r\nRETR 1\r\nQUIT\r\n")
      assert.is_true(#replies > #text)
      local records, octets = said:match("records=(%d+) octets=(%d+)")
      assert.is_true(tonumber(octets) / tonumber(records) > 16000, said)
   end)

   it("are counted as they are without TLS", function()
      local server = implicit(nil, nil, { "a" })
      local c = tls.login(server)
      local before = state(server)
      c:command("NOOP")
      local after = state(server)
      assert.equal(6, after.bytes_in - before.bytes_in)
      assert.equal(#"+OK\r\n", after.bytes_out - before.bytes_out)
   end)

   it("of a flood before the login end the connection", function()
      local server = implicit(nil, { max_bad_commands = false })
      local c = tls.connect(server)
      pcall(c.send, c, ("NOOP\r\n"):rep(20000))
      client.wait_for("its end", function() return not server:conn_list()[1] end)
   end)
end)
