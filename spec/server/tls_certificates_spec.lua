-- What TLS is served with: certificates, keys, tickets; and what clients show.
local client = require("support.client")
local core = require("popd.core")
local files = require("support.files")
local popd = require("popd")
local store = require("support.store")
local tls = require("support.tls")

local pki = tls.pki_of_blocks()

local function implicit(...)
   return (pki:implicit(...))
end

describe("a certificate or key", function()
   lazy_setup(function()
      pki.start()
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
      files.run("mkfifo %s", pki:path("pipe"))
      files.put(pki:path("large.pem"), ("x"):rep(1100000))
   end)
   lazy_teardown(pki.stop)
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
      { "pipe", "server.key", "pipe cannot be read: it is no regular file" },
      { "server.pem", "pipe", "pipe cannot be read: it is no regular file" },
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
      local server = pki:serve()
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
      pki:serve()
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

describe("new certificates", function()
   local pair

   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
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

   it("are not said to be read again by a server that has none", function()
      local server = client.server {}
      assert.is_true(server:reload_tls())
      assert.same({}, client.logged("read again"))
      server:configure { tls = pair }
      assert.is_true(server:reload_tls())
      assert.equal(1, #client.logged("read again"))
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
      local server = pki:serve()
      local ok, why = pcall(function() server:configure { tls = false } end)
      assert.is_false(ok)
      assert.truthy(why:find("tls_certificates_spec.*take it down first"), why)
      tls.start(server)
      server:down()
      server:configure { tls = false }
      server:up()
      server:configure { tls = false }
      assert.is_nil(tls.capabilities(client.connect(server)).STLS)
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
      assert.truthy(tls.failure():find("the client left", 1, true))
      assert.equal("other", tls.name(tls.connect(server)))
   end)
end)

describe("tickets", function()
   lazy_setup(pki.start)
   lazy_teardown(pki.stop)
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

   it("of a suite that is not served any more are not taken", function()
      local server = implicit()
      kept(server, " -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
      server:configure { tls = pki:pair("server", {
         mode = "implicit", ciphers = { "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" },
      }) }
      assert.equal("New", again(server, " -tls1_2"))
   end)

   it("of a kind of key that is not served any more are not taken", function()
      pki:make("rsa", { kind = "rsa" })
      local server = implicit()
      kept(server, " -tls1_2")
      server:configure { tls = pki:pair("rsa", { mode = "implicit" }) }
      assert.equal("New", again(server, " -tls1_2"))
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
      pki.start()
      pki:make("joe", { names = "email:joe@example.org,DNS:joe.example.org,email:j@example.org,IP:192.0.2.1" })
      pki:make("bare", { subject = "/O=nobody" })
      files.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=joe"
         .. " -keyout %s -out %s 2>/dev/null", pki:path("forged.key"), pki:path("forged.pem"))
      pki:make("late", { expired = true })
   end)
   lazy_teardown(pki.stop)
   after_each(client.finish)

   local function with(name)
      return { certificate = pki:path(name .. ".pem"), key = pki:path(name .. ".key") }
   end

   it("is told of by its names", function()
      local server = implicit { client_ca = pki:path("ca.pem") }
      tls.login(server, with("joe"))
      local told = tls.state(server).tls.client
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
      local told = tls.state(server).tls.client
      assert.equal("O=nobody", told.subject)
      assert.is_nil(told.name)
   end)

   it("may be shown after STLS", function()
      local server = pki:serve { client_ca = pki:path("ca.pem") }
      tls.start(server, with("joe")):login("joe", "secret")
      assert.equal("joe", tls.state(server).tls.client.name)
   end)

   for _, name in ipairs { "forged", "late" } do
      it("that is not good (" .. name .. ") makes no client", function()
         local server = implicit { client_ca = pki:path("ca.pem") }
         tls.login(server, with(name))
         assert.is_false(tls.state(server).tls.client)
      end)
   end

   it("need not be shown", function()
      local server = implicit { client_ca = pki:path("ca.pem") }
      tls.login(server)
      assert.is_false(tls.state(server).tls.client)
   end)

   it("is not asked for where there is no client_ca", function()
      local server = implicit()
      tls.login(server, with("joe"))
      assert.is_false(tls.state(server).tls.client)
   end)
end)
