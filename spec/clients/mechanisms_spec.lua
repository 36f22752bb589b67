-- How real clients log in, each by every mechanism that it has.
local beside = require("support.beside")
local client = require("support.client")
local files = require("support.files")
local process = require("support.process")
local store = require("support.store")

local TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="

local function fetch_with_mpop(dir, port, mechanism, secret)
   local rc = files.put(dir .. "/mpoprc", ([[
account default
host 127.0.0.1
port %d
user joe
password %s
auth %s
tls off
keep on
uidls_file %s/uidls
delivery mda "cat >%s/message"
]]):format(port, secret, mechanism:lower(), dir, dir))
   files.run("chmod 600 %s", rc)
   return beside.run({ "mpop", "-q", "-C", rc }, dir)
end

local function fetch_with_curl(dir, port, mechanism, secret)
   local words = { "curl", "--silent", "--show-error", "--fail", "--user", "joe:" .. secret, "--login-options",
      "AUTH=" .. mechanism, "--output", dir .. "/message", ("pop3://127.0.0.1:%d/1"):format(port) }
   if secret == TOKEN then
      words[6] = "joe:"
      table.insert(words, 2, "--oauth2-bearer")
      table.insert(words, 3, TOKEN)
   end
   return beside.run(words, dir)
end

-- curl prefers OAUTHBEARER to XOAUTH2, whatever it is told.
local cases = {
   { "mpop", fetch_with_mpop, { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256" },
      { "OAUTHBEARER", "XOAUTH2" } },
   { "curl", fetch_with_curl, { "PLAIN", "LOGIN", "CRAM-MD5" }, { "OAUTHBEARER" } },
}

for _, case in ipairs(cases) do
   local program, fetch, with_password, with_token = table.unpack(case)

   describe(program .. " logs in", function()
      local dir

      before_each(function() dir = files.new_dir() end)

      after_each(function()
         client.finish()
         files.remove(dir)
      end)

      local function rule(mechanism, right, wrong)
         it("by " .. mechanism .. ", and not with a wrong secret", function()
            if not process.has(program) then
               return pending(program .. " is not installed")
            end
            local used = {}
            local auth = {
               lookup = store.auth.lookup,
               token = function(name, token) return name == "joe" and token == TOKEN and "joe" or nil end,
            }
            local on = { login = function(_, _, mech) used[mech] = true end }
            local server = store.server({ "Subject: one\n\nfirst\n" }, { auth = auth, on = on })
            assert.is_false((fetch(dir, server:cget("port"), mechanism, wrong)))
            local ok, text = fetch(dir, server:cget("port"), mechanism, right)
            assert.is_true(ok, text)
            assert.truthy(files.text(dir .. "/message"):find("first", 1, true))
            assert.same({ [mechanism] = true }, used)
         end)
      end

      for _, mechanism in ipairs(with_password) do
         rule(mechanism, "secret", "wrong")
      end
      for _, mechanism in ipairs(with_token) do
         rule(mechanism, TOKEN, "wrongtoken")
      end
   end)
end
