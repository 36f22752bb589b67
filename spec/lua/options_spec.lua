local client = require("support.client")
local options = require("popd.options")
local popd = require("popd")

describe("the options", function()
   after_each(client.finish)

   local defaults = {
      port = 110, plain_login = "local", max_connections = 10000, max_per_address = 50, max_per_user = 10,
         login_timeout = 60,
      idle_timeout = 600, write_timeout = 300, max_failures = 3, failure_delay = 2, max_bad_commands = 100,
         line_limit = 255,
      callback_timeout = 30, callback_instructions = 1e8, renew_interval = 10,
   }
   for name, value in pairs(defaults) do
      it(("have %s at %s"):format(name, value), function()
         assert.equal(value, client.adopt(popd.new()):cget(name))
         assert.equal(value, options.defaults()[name])
      end)
   end

   -- name, values that are taken, values that are not
   local cases = {
      { "port", { 0, 110, 65535 }, { -1, 65536, 1.5, "110", false, {} } },
      { "address", { "127.0.0.1", "::1" }, { 5, false, {} } },
      { "auth", { print, { lookup = print }, { verify = print }, { token = print }, { certificate = print },
         { lookup = setmetatable({}, { __call = print }) }, { lookup = print, secrets = "hash" },
         { lookup = print, dummy = "x", salt_key = "\0", oauth = { scope = "a", discovery = "b" } },
         { mechanisms = { ["X-1_A"] = print, B = { step = print }, PLAIN = false, ABCDEFGHIJKLMNOPQRST = print } } },
         { {}, 5, "x", true, { exists = print }, { lookup = 5 }, { lookup = print, verify = "x" },
            { lookup = print, secrets = "none" }, { lookup = print, secrets = false }, { lookup = print, dummy = 5 },
            { lookup = print, salt_key = true }, { lookup = print, oauth = "x" },
            { lookup = print, oauth = { scope = "\255" } }, { mechanisms = print }, { mechanisms = { x = print } },
            { mechanisms = { print } }, { mechanisms = { [""] = print } }, { mechanisms = { ["A B"] = print } },
            { mechanisms = { ABCDEFGHIJKLMNOPQRSTU = print } }, { mechanisms = { A = 5 } },
            { mechanisms = { A = {} } } } },
      { "storage", { print, { get = print, stat = print }, { get = print, scan = print } },
         { {}, 5, true, { get = print }, { stat = print }, { scan = print, stat = print } } },
      { "socket", { print }, { {}, 5, "tcp" } },
      { "proxy", { false, { "10.0.0.0/8" }, { "::1", "127.0.0.1" } }, { {}, "10.0.0.0/8", { 5 }, 5 } },
      { "plain_login", { "always", "local", "tls" }, { "never", true, 5 } },
      { "on", { {}, { connect = print } }, { 5, print, { connect = 5 }, { conect = print } } },
      { "commands", { {}, { XFOO = print }, { TOP = false } }, { 5, print, { XFOO = 5 } } },
      { "expire", { false, 0, 30, "NEVER" }, { -1, 1.5, "never", true } },
      { "languages", { {}, { de = { name = "Deutsch", texts = {} } }, { ["zh-Hant-TW"] = { name = "\u{4e2d}\u{6587}",
         texts = { bye = "\u{518d}\u{89c1}" } } } },
         { 5, true, { de = 5 }, { de = {} }, { de = { name = "Deutsch" } }, { de = { name = 5, texts = {} } },
            { de = { name = "", texts = {} } }, { de = { name = "a\nb", texts = {} } },
            { de = { name = "\xff", texts = {} } },
            { [1] = { name = "X", texts = {} } }, { ["d e"] = { name = "X", texts = {} } },
            { ["de-"] = { name = "X", texts = {} } }, { ["123"] = { name = "X", texts = {} } },
            { ["a1-b"] = { name = "X", texts = {} } },
            { ["abcdefghi"] = { name = "X", texts = {} } }, { ["i-default"] = { name = "X", texts = {} } },
            { ["*"] = { name = "X", texts = {} } }, { de = { name = "X", texts = { bye = "a\r\nb" } } },
            { de = { name = "X", texts = { bye = "\xe4" } } }, { de = { name = "X", texts = { bye = 5 } } },
            { de = { name = "X", texts = { "bye" } } }, { de = { name = "X", texts = { bye = "[AUTH] x" } } },
            { de = { name = "X", texts = { bye = ("x"):rep(401) } } },
            { de = { name = "X", texts = {} }, DE = { name = "Y", texts = {} } } } },
      { "line_limit", { 255, 1000 }, { 254, false, 0, 1e9, "255" } },
      { "tls", {}, { 5, "x", true } },
   }
   -- false is no limit; 0 would be one that nothing meets, or a typing error
   for _, name in ipairs { "max_connections", "max_per_address", "max_per_user", "max_failures", "max_bad_commands",
      "callback_instructions" } do
      cases[#cases + 1] = { name, { false, 1, 1000 }, { 0, -1, 1.5, "5", true, {}, 1e300, math.huge, 0 / 0 } }
   end
   for _, name in ipairs { "login_timeout", "idle_timeout", "write_timeout", "callback_timeout", "renew_interval" } do
      cases[#cases + 1] = { name, { false, 0.5, 1, 1000 }, { 0, -1, "5", true, {}, 1e300, math.huge, 0 / 0 } }
   end
   for _, name in ipairs { "failure_delay", "login_delay" } do
      cases[#cases + 1] = { name, { false, 0, 0.5, 1000 }, { -1, "5", true, {}, 1e300, math.huge, 0 / 0 } }
   end

   for _, case in ipairs(cases) do
      local name = case[1]
      for i, value in ipairs(case[2]) do
         it(("take %s = %s (case %d)"):format(name, tostring(value):gsub(":.*", ""), i), function()
            local server = client.adopt(popd.new())
            server:configure { [name] = value }
            assert.equal(value, server:cget(name))
         end)
      end
      for i, value in ipairs(case[3]) do
         it(("refuse %s = %s (case %d), and say what is expected"):format(name, tostring(value):gsub(":.*", ""), i),
            function()
            local server = client.adopt(popd.new())
            local before = server:cget(name)
            local ok, err = pcall(server.configure, server, { [name] = value })
            assert.is_false(ok)
            assert.truthy(err:find(("option '%s'"):format(name), 1, true), err)
            assert.truthy(err:find("expected", 1, true) or name == "tls", err)
            assert.equal(before, server:cget(name))
            assert.is_false((pcall(popd.new, { [name] = value })))
         end)
      end
   end

   it("name the part of a value that is wrong, and no addresses of tables", function()
      local _, err = pcall(popd.new, { proxy = { "10.0.0.0/8", "10/8" } })
      assert.truthy(err:find('a list of networks, { "10.0.0.0/8" } expected; 10/8 is none', 1, true), err)
      _, err = pcall(popd.new, { auth = {} })
      assert.truthy(err:find("expected, got a table$"), err)
   end)

   it("may be given nil for one that has no value", function()
      client.adopt(popd.new { auth = nil, storage = nil })
   end)

   it("name the choices for an unknown one", function()
      local ok, err = pcall(popd.new, { idle = 5 })
      assert.is_false(ok)
      for name in pairs(defaults) do
         assert.truthy(err:find(name, 1, true))
      end
   end)
end)
