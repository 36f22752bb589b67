-- Who is served TLS, and how hands are shaken.
local client = require("support.client")
local core = require("popd.core")
local popd = require("popd")
local store = require("support.store")
local tls = require("support.tls")

local pki = tls.pki_of_blocks()

local function implicit(...)
   return (pki:implicit(...))
end

describe("implicit TLS", function()
   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
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
      assert.is_nil(tls.capabilities(c).STLS)
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
      local told = tls.state(server).tls
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
         assert.equal("192.0.2.7", tls.state(server).remotehost)
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
   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
   after_each(client.finish)

   it("is offered, then makes the connection a TLS one", function()
      local server = pki:serve()
      local c = client.connect(server)
      assert.is_true(tls.capabilities(c).STLS)
      assert.is_false(tls.state(server).tls)
      tls.stls(c)
      assert.is_nil(tls.capabilities(c).STLS)
      assert.truthy(tls.state(server).tls.version:find("^TLSv1"))
      c:login("joe", "secret")
      assert.equal("a\r\n", (c:fetch("RETR 1")))
   end)

   it("is not offered where there is no certificate", function()
      local c = client.connect((store.server({})))
      assert.is_nil(tls.capabilities(c).STLS)
      assert.truthy(c:command("STLS"):find("^%-ERR"))
   end)

   it("a second time is refused", function()
      local c = tls.start((pki:serve()))
      assert.truthy(c:command("STLS"):find("^%-ERR"))
      c:login("joe", "secret")
   end)

   it("in TRANSACTION is refused", function()
      local c = client.login((pki:serve()))
      assert.is_nil(tls.capabilities(c).STLS)
      assert.truthy(c:command("STLS"):find("^%-ERR"))
      assert.equal("+OK 1 3", c:command("STAT"))
   end)

   it("with an argument is refused", function()
      local c = client.connect((pki:serve()))
      assert.truthy(c:command("STLS now"):find("^%-ERR"))
      c:login("joe", "secret")
   end)

   it("drops what came behind it in the clear, and logs so", function()
      local server, s = pki:serve()
      local c = client.connect(server)
      local behind = "USER joe\r\nPASS secret\r\nDELE 1\r\n"
      c:send("STLS\r\n" .. behind)
      assert.truthy(c:line():find("^%+OK"))
      tls.secure(c)
      assert.truthy(c:command("PASS secret"):find("^%-ERR"))
      assert.equal("", c.buffer)
      assert.equal("auth", tls.state(server).state)
      assert.same({}, s.calls)
      assert.equal(1, #client.logged("behind STLS was dropped.*octets=" .. #behind))
   end)

   it("drops a part of a line behind it, also of one that is too long", function()
      for _, part in ipairs { "PA", ("x"):rep(300) } do
         local c = client.connect((pki:serve()))
         c:send("STLS\r\n" .. part)
         assert.truthy(c:line():find("^%+OK"))
         tls.secure(c)
         c:login("joe", "secret")
         assert.truthy(c:command("QUIT"):find("^%+OK"))
         c:closed()
      end
   end)

   it("never runs what comes in the clear in the next segment", function()
      local server, s = pki:serve()
      local c = client.connect(server)
      assert.truthy(c:command("STLS"):find("^%+OK"))
      c:send("USER joe\r\nPASS secret\r\n")
      local _, rest = c:closed()
      assert.is_nil(rest:find("+OK", 1, true))
      assert.truthy(tls.failure():find("does not speak TLS", 1, true), tls.failure())
      assert.same({}, s.calls)
   end)

   it("makes the login begin anew", function()
      local c = client.connect((pki:serve()))
      c:command("USER joe")
      tls.stls(c)
      assert.truthy(c:command("PASS secret"):find("^%-ERR"))
      c:login("joe", "secret")
   end)

   it("keeps the stamp of APOP", function()
      local c, greeting = client.connect((pki:serve()))
      tls.stls(c)
      local digest = core.digest("MD5", greeting:match("<.*>") .. "secret")
      local hex = digest:gsub(".", function(octet) return ("%02x"):format(octet:byte()) end)
      assert.truthy(c:command("APOP joe " .. hex):find("^%+OK"))
   end)

   it("opens the way for passwords where plain ones are refused", function()
      local server = pki:serve(nil, { proxy = { "127.0.0.1" } })
      local c = client.open(server):send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 110\r\n")
      c:line()
      assert.is_nil(tls.capabilities(c).USER)
      assert.truthy(c:command("USER joe"):find("STLS", 1, true))
      assert.truthy(c:command("PASS secret"):find("^%-ERR"))
      tls.stls(c)
      assert.is_true(tls.capabilities(c).USER)
      c:login("joe", "secret")
      assert.equal("192.0.2.7", tls.state(server).remotehost)
   end)

   it('opens it from everywhere where plain_login = "tls"', function()
      local c = client.connect((pki:serve(nil, { plain_login = "tls" })))
      assert.truthy(c:command("USER joe"):find("^%-ERR"))
      tls.stls(c)
      c:login("joe", "secret")
   end)
end)

describe("where TLS is served:", function()
   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
   after_each(client.finish)

   it("a further listener takes the server's certificate, or none, or its own", function()
      local server = pki:serve()
      local secure = server:listen { port = 0, tls = "implicit" }
      local plain = server:listen { port = 0, tls = false }
      local own = server:listen { port = 0, tls = pki:pair("other") }
      local both = server:listen { port = 0, tls = pki:pair("other", { mode = "implicit" }) }
      assert.equal("server", tls.name(tls.connect(secure.port)))
      assert.is_nil(tls.capabilities(client.connect(plain.port)).STLS)
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

describe("SNI", function()
   lazy_setup(function()
      pki.start()
      for _, name in ipairs { "exact", "wild" } do
         pki:make(name)
      end
   end)
   lazy_teardown(pki.stop)
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
         assert.equal(case[1], tls.state(server).tls.sni)
      end)
   end
end)

describe("what is negotiated:", function()
   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
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

   it("no cipher that the library does not have: the error names it", function()
      local ok, why = pcall(implicit, { ciphers = { "TLS_NO_SUCH_THING" } })
      assert.is_false(ok)
      assert.truthy(why:find("TLS_NO_SUCH_THING", 1, true), why)
   end)

   it("no compression, though the client offers it", function()
      local c = client.open(implicit()):send(tls.hello("a.example", "\1\0"))
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
      assert.truthy(tls.failure():find("no version of TLS", 1, true), tls.failure())
      tls.connect(implicit { min = "1.3", ciphers = { "TLS_AES_256_GCM_SHA384" } })
   end)

   it("TLS 1.2 with whom has no more", function()
      local server = implicit()
      local c = tls.connect(server, { protocol = "tlsv1_2" })
      assert.equal("TLSv1.2", c.socket:info("protocol"))
      assert.equal("TLSv1.2", tls.state(server).tls.version)
      c:login("joe", "secret")
   end)
end)

describe("a handshake that fails", function()
   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
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
         local server = implicit()
         local other = tls.login(server)
         server:configure(case[4] or {})
         case[3](server)
         local line = tls.failure()
         assert.truthy(line:find(case[2], 1, true), line)
         assert.truthy(line:find("^warning .*peer=127%.0%.0%.1"), line)
         client.wait_for("its end", function() return #server:conn_list() == 1 end)
         assert.equal(1, #client.logged("TLS handshake"))
         assert.equal("+OK 1 3", other:command("STAT"))
         server:configure { handshake_timeout = 20 }
         tls.connect(server)
      end)
   end

   it("after STLS ends the connection alike", function()
      local server = pki:serve()
      local c = client.connect(server)
      assert.is_nil((tls.stls(c, weak("tlsv1_1"))))
      assert.truthy(tls.failure():find("no version of TLS", 1, true))
      client.wait_for("its end", function() return #server:conn_list() == 0 end)
   end)

   it("may take a name of any octets", function()
      local server = implicit { sni = { ["a.example"] = pki:pair("other"), ["*.b.example"] = pki:pair("other") } }
      for _, name in ipairs {
         "a.example\0", "a.example\0" .. ("x"):rep(3000), "\0", ".b.example", "x.b.example\0x", ("y"):rep(3000), "",
         "\255\254",
      } do
         local c = client.open(server):send(tls.hello(name))
         c:want("an answer", function(buffer) return #buffer > 5 end)
         c:close()
      end
      tls.connect(server)
   end)

   it("is not held up by a client that sends warnings without end", function()
      local server = implicit()
      local c = client.open(server):send(tls.hello("a.example"))
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
            client.turn()
         until turns == 1000000 or not server:conn_list()[1]
      end)
      local before, ended = turns, nil
      client.wait_for("room, or the end", function() -- OpenSSL takes five warnings, and no more
         local ok, why = c.socket:send("\x15\3\3\0\2\1\x5a")
         ended = why == "closed"
         return ok or ended
      end)
      assert.is_true(sent > 100000)
      c:close()
      client.wait_for("its end", function() return not server:conn_list()[1] end)
      assert.is_true(ended or turns - before > sent / 7 / 64, ("%d turns, %d octets"):format(turns - before, sent))
   end)
end)
