local files = require("spec.support.files")
local program = require("spec.support.program")

local has_openssl = os.execute("command -v openssl >/dev/null 2>&1") == true
local has_python = os.execute("command -v python3 >/dev/null 2>&1") == true

describe("popd-lua cert", function()
   local dir

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      files.remove(dir)
   end)

   local function path(name)
      return dir .. "/" .. name
   end

   local function cert(...)
      return program.run({ program.path() }, "cert", ...)
   end

   local function rule(name, f)
      it(name, function()
         if not has_openssl then
            return pending("openssl is not installed")
         end
         f()
      end)
   end

   local function openssl(...)
      local status, out, err = program.run({ "openssl" }, ...)
      return out .. err, status
   end

   -- A made certificate as openssl tells it.
   local function text_of(...)
      local status, _, err = cert("--out", dir, ...)
      assert.equal(0, status, err)
      return (openssl("x509", "-in", path("cert.pem"), "-noout", "-text"))
   end

   local function contains(text, part)
      assert.is_truthy(text:find(part, 1, true), ("%q lacks %q"):format(text, part))
   end

   local function mode(name)
      return files.first_line("stat -c %a " .. path(name))
   end

   describe("makes a certificate that", function()
      rule("names every host, as a name or an address", function()
         local text = text_of("mail.example.org", "192.0.2.1", "2001:db8::1", "*.example.net", "localhost")
         contains(text, "DNS:mail.example.org, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1, "
            .. "DNS:*.example.net, DNS:localhost")
         assert.is_truthy(text:find("Subject: CN ?= ?mail.example.org\n"))
      end)

      rule("is of version 3, by EC P-256 and SHA-256", function()
         local text = text_of("localhost")
         contains(text, "Version: 3 (0x2)")
         contains(text, "NIST CURVE: P-256")
         contains(text, "Signature Algorithm: ecdsa-with-SHA256")
      end)

      rule("is good for a server and nothing else", function()
         local text = text_of("localhost")
         contains(text, "CA:FALSE")
         contains(text, "TLS Web Server Authentication\n")
         assert.is_truthy(text:find("Key Usage: critical\n%s+Digital Signature\n"))
      end)

      rule("has another serial number each time", function()
         local function serial()
            return text_of("--force", "localhost"):match("Serial Number:%s+(%S+)")
         end
         local one = serial()
         assert.equal(16 * 3 - 1, #one)
         assert.are_not.equal(one, serial())
      end)

      rule("is valid since a day ago, and for the days that are asked for", function()
         for _, days in ipairs { 1, 825, 36500 } do
            local status = cert("--force", "--out", dir, "--days", days, "localhost")
            assert.equal(0, status)
            local function ends_within(seconds)
               return select(2, openssl("x509", "-in", path("cert.pem"), "-noout", "-checkend", seconds)) ~= 0
            end
            assert.is_false(ends_within(days * 86400 - 3600))
            assert.is_true(ends_within(days * 86400 + 3600))
         end
         local started = openssl("x509", "-in", path("cert.pem"), "-noout", "-startdate")
         local seconds = files.first_line(("date -u -d '%s' +%%s"):format(started:match("=(.*)\n")))
         local age = os.time() - math.tointeger(tonumber(seconds))
         assert.is_true(age >= 86400 and age < 86400 + 300, age)
      end)

      rule("openssl takes for every host, trusting it alone, and for no other", function()
         text_of("mail.example.org", "192.0.2.1", "2001:db8::1", "*.example.net")
         local cases = {
            { "-verify_hostname", "mail.example.org", 0 },
            { "-verify_hostname", "pop.example.net",  0 },
            { "-verify_hostname", "example.org",      2 },
            { "-verify_ip",       "192.0.2.1",        0 },
            { "-verify_ip",       "2001:db8::1",      0 },
            { "-verify_ip",       "192.0.2.2",        2 },
         }
         for _, case in ipairs(cases) do
            local said, status = openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile",
               path("cert.pem"), case[1], case[2], path("cert.pem"))
            assert.equal(case[3], status, case[2] .. ": " .. said)
         end
      end)

      rule("cannot vouch for others", function()
         text_of("localhost")
         local said, status = openssl("verify", "-purpose", "sslclient", "-CAfile", path("cert.pem"), path("cert.pem"))
         assert.are_not.equal(0, status, said)
         files.run([[cd %s &&
            openssl req -new -newkey rsa:2048 -nodes -keyout other.key -subj /CN=other -out other.csr 2>log &&
            openssl x509 -req -in other.csr -CA cert.pem -CAkey key.pem -CAcreateserial -out other.pem 2>log]], dir)
         said, status = openssl("verify", "-CAfile", path("cert.pem"), path("other.pem"))
         assert.are_not.equal(0, status, said)
      end)

      rule("belongs to the key", function()
         text_of("localhost")
         local of_cert = openssl("x509", "-in", path("cert.pem"), "-noout", "-pubkey")
         local of_key, status = openssl("pkey", "-in", path("key.pem"), "-pubout")
         assert.equal(0, status)
         assert.equal(of_cert, of_key)
      end)

      it("Python takes with its strictest settings, in a handshake", function()
         if not has_python then
            return pending("python3 is not installed")
         end
         assert.equal(0, (cert("--out", dir, "localhost")))
         local status, out, err = program.run({ "python3", "spec/support/handshake.py" },
            path("cert.pem"), path("key.pem"), "localhost")
         assert.same({ 0, "taken\n" }, { status, out }, err)
         status = program.run({ "python3", "spec/support/handshake.py" },
            path("cert.pem"), path("key.pem"), "otherhost")
         assert.equal(1, status)
      end)

      rule("takes a hundred hosts, and the longest names", function()
         local hosts = {}
         for i = 1, 100 do
            hosts[i] = ("%s.%s.%s.%03d.example.org"):format(("a"):rep(63), ("b"):rep(63), ("c"):rep(63), i)
         end
         local text = text_of(table.unpack(hosts))
         for _, host in ipairs(hosts) do
            contains(text, "DNS:" .. host)
         end
         local said, status = openssl("verify", "-CAfile", path("cert.pem"),
            "-verify_hostname", hosts[77], path("cert.pem"))
         assert.equal(0, status, said)
      end)
   end)

   describe("writes", function()
      it("both files, the key for its owner alone, whatever the umask is", function()
         local shell = { "sh", "-c", 'umask "$1"; shift; exec "$@"', "sh" }
         for _, umask in ipairs { "000", "022", "077" } do
            local command = table.move({ umask, program.path(), "cert" }, 1, 3, 5, { table.unpack(shell) })
            assert.equal(0, (program.run(command, "--out", dir, "--force", "localhost")))
            assert.same({ "644", "600" }, { mode("cert.pem"), mode("key.pem") })
         end
      end)

      it("where --cert and --key say", function()
         assert.equal(0, (cert("--cert", path("a.crt"), "--key=" .. path("b.key"), "localhost")))
         contains(files.text(path("a.crt")), "-----BEGIN CERTIFICATE-----")
         contains(files.text(path("b.key")), "PRIVATE KEY-----")
      end)

      rule("what it did, with the fingerprint, and nothing of the key", function()
         local status, out, err = cert("--out", dir, "localhost")
         assert.same({ 0, "" }, { status, err })
         contains(out, path("cert.pem"))
         contains(out, path("key.pem"))
         contains(out, "--tls-port")
         contains(out, (openssl("x509", "-in", path("cert.pem"), "-noout", "-fingerprint", "-sha256"):match("=(%S+)")))
         for line in files.text(path("key.pem")):gmatch("[^\n]+") do
            assert.is_falsy(out:find(line, 1, true))
         end
      end)

      it("over nothing that is there, and then neither of both", function()
         for _, there in ipairs { "cert.pem", "key.pem" } do
            files.put(path(there), "old")
            local status, out, err = cert("--out", dir, "localhost")
            assert.same({ 1, "" }, { status, out })
            contains(err, there)
            contains(err, "--force")
            assert.equal("old", files.text(path(there)))
            files.run("rm %s && test -z \"$(ls %s)\"", path(there), dir)
         end
      end)

      it("over both with --force", function()
         files.put(path("cert.pem"), "old")
         files.put(path("key.pem"), "old")
         files.run("chmod 644 %s", path("key.pem"))
         assert.equal(0, (cert("--force", "--out", dir, "localhost")))
         contains(files.text(path("cert.pem")), "BEGIN CERTIFICATE")
         contains(files.text(path("key.pem")), "PRIVATE KEY")
         assert.equal("600", mode("key.pem"))
         files.run("test \"$(ls %s | wc -l)\" = 2", dir)
      end)

      it("neither, and keeps the old key, where --force cannot replace the certificate", function()
         files.put(path("key.pem"), "old")
         files.run("mkdir %s", path("cert.pem"))
         local status, _, err = cert("--force", "--out", dir, "localhost")
         assert.equal(1, status)
         contains(err, "cert.pem")
         assert.equal("old", files.text(path("key.pem")))
         files.run("test \"$(ls %s | wc -l)\" = 2", dir)
      end)

      it("through no symbolic link", function()
         files.run("ln -s %s %s", path("elsewhere"), path("key.pem"))
         assert.equal(1, (cert("--out", dir, "localhost")))
         assert.is_false(files.exists(path("elsewhere")))
      end)

      it("nothing where it cannot", function()
         local status, out, err = cert("--out", "/nowhere/dir", "localhost")
         assert.same({ 1, "" }, { status, out })
         contains(err, "/nowhere/dir/key.pem: No such file or directory")
      end)
   end)

   -- arguments                                            what it says
   local wrong = {
      { {},                                                 "which hosts?" },
      { { "--days", "0", "localhost" },                     "--days: a number from 1 to 36500" },
      { { "--days", "36501", "localhost" },                 "--days" },
      { { "--days", "1.5", "localhost" },                   "got '1.5'" },
      { { "--days", "many", "localhost" },                  "got 'many'" },
      { { "--out", "x", "--cert", "y", "localhost" },       "--out names both" },
      { { "--out", "", "localhost" },                       "--out: a directory expected" },
      { { "--cert", "x", "localhost" },                     "--cert and --key go together" },
      { { "--cert", "x", "--key", "x", "localhost" },       "two files" },
      { { "--what", "localhost" },                          "unknown option --what" },
      { { "--force=yes", "localhost" },                     "--force takes no value" },
      { { "localhost", "" },                                "'' is neither" },
      { { "bad_host" },                                     "'bad_host' is neither a host's name nor an address" },
      { { "-x.example.org" },                               "unknown option" },
      { { "--", "-x.example.org" },                         "is neither" },
      { { "x-.example.org" },                               "is neither" },
      { { "a..b" },                                         "is neither" },
      { { ".example.org" },                                 "is neither" },
      { { "example.org." },                                 "is neither" },
      { { "a.*.org" },                                      "is neither" },
      { { "*" },                                            "is neither" },
      { { "a b" },                                          "is neither" },
      { { "a,CN=b" },                                       "is neither" },
      { { "münchen.example" },                              "is neither" },
      { { "192.0.2.256" },                                  "is neither" },
      { { "192.0.2.1/24" },                                 "is neither" },
      { { "[::1]" },                                        "is neither" },
      { { "fe80::1%eth0" },                                 "is neither" },
      { { ("a"):rep(64) .. ".org" },                        "is neither" },
      { { (("a"):rep(62) .. "."):rep(4) .. "org" },         "is neither" },
   }
   for _, case in ipairs(wrong) do
      it("refuses " .. table.concat(case[1], " "):sub(1, 60), function()
         local status, out, err = program.run({ "env", "-C", dir, program.path() }, "cert", table.unpack(case[1]))
         assert.same({ 2, "" }, { status, out })
         contains(err, case[2])
         files.run("test -z \"$(ls %s)\"", dir)
      end)
   end

   it("refuses more hosts than a certificate takes", function()
      local hosts = {}
      for i = 1, 101 do
         hosts[i] = "h" .. i .. ".example.org"
      end
      local status, _, err = cert("--out", dir, table.unpack(hosts))
      assert.equal(2, status)
      contains(err, "101 hosts")
   end)
end)
