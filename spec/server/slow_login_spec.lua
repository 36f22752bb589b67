local client = require("support.client")
local files = require("support.files")
local passwd = require("popd.passwd")
local popd = require("popd")
local scheme = require("popd.scheme")
local store = require("support.store")

local CROWD = 100

describe("a crowd of logins with slow hashes", function()
   after_each(client.finish)

   it("does not keep a client waiting who is logged in", function()
      local stored = assert(scheme.make("CRYPT", "secret")) -- yescrypt
      local asked, entered = 0, 0
      local server = store.server({ "a" }, {
         max_per_address = false, max_per_user = false, callback_timeout = 120, login_timeout = 120,
         auth = { verify = function(name, password)
            if name == "quick" then
               return name
            end
            asked = asked + 1
            local same = assert(scheme.verify(stored, password))
            entered = entered + 1
            return same and name
         end },
      }, { lock = false })
      local quick, crowd = client.login(server, "quick", "x"), {}
      for i = 1, CROWD do
         crowd[i] = client.connect(server)
         crowd[i]:command("USER slow" .. i)
      end
      for i = 1, CROWD do
         crowd[i]:send("PASS secret\r\n")
      end
      client.wait_for("the crowd to be asked for", function() return asked == CROWD end)

      assert.equal("+OK", quick:command("NOOP"))
      local before = entered
      assert.equal("+OK 1 3", quick:command("STAT"))
      assert.is_true(before < CROWD, before .. " had entered already")

      for i = 1, CROWD do
         assert.truthy(crowd[i]:line():find("^%+OK"))
      end
      assert.equal(CROWD, entered)
   end)

   it("is refused one by one where the password is wrong", function()
      local stored = assert(scheme.make("SCRAM-SHA-256", "secret"))
      local server = client.server { max_per_address = false, auth = { verify = function(_, password)
         local same, why = scheme.verify(stored, password)
         assert(same ~= nil, why)
         return same and "joe"
      end } }
      local crowd = {}
      for i = 1, 20 do
         crowd[i] = client.connect(server)
         crowd[i]:send("USER joe\r\nPASS wrong\r\n")
      end
      for i = 1, 20 do
         assert.truthy(crowd[i]:line():find("^%+OK"))
         assert.truthy(crowd[i]:line():find("^%-ERR %[AUTH%]"))
      end
   end)

   it("goes on when the clients leave, and nothing is left behind", function()
      local stored = assert(scheme.make("CRYPT", "secret"))
      local ended = 0
      local server = client.server { max_per_address = false, callback_timeout = 120, auth = {
         verify = function(_, password)
            local same = scheme.verify(stored, password)
            ended = ended + 1
            return same and "joe"
         end,
      } }
      local crowd = {}
      for i = 1, 20 do
         crowd[i] = client.connect(server)
         crowd[i]:send("USER joe\r\nPASS secret\r\n")
      end
      popd.step(0)
      for i = 1, 20 do
         crowd[i]:close()
      end
      client.wait_for("their ends", function() return #server:conn_list() == 0 end)
      assert.is_true(ended <= 20)
   end)
end)

describe("a users' file with hashes", function()
   after_each(client.finish)

   it("lets in who knows the password, whatever it is stored as, and nobody else", function()
      local lines, names = {}, {}
      for i, name in ipairs { "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "SSHA512", "CRYPT", "SHA256-CRYPT" } do
         names[i] = "user" .. i
         lines[i] = ("user%d:%s"):format(i, assert(scheme.make(name, "right")))
      end
      local dir = files.new_dir()
      local auth = assert(passwd.new { file = files.put(dir .. "/users", table.concat(lines, "\n")) })
      assert.equal("hash", auth.secrets)
      local server = client.server { auth = auth, max_failures = false, max_per_address = false }
      files.remove(dir)
      local c = client.connect(server)
      for _, name in ipairs { "nobody", table.unpack(names) } do
         assert.equal("+OK", c:command("USER " .. name):sub(1, 3))
         assert.truthy(c:command("PASS wrong"):find("^%-ERR %[AUTH%]"))
      end
      for _, name in ipairs(names) do
         client.login(server, name, "right")
      end
      for _, line in ipairs(client.log) do
         assert.falsy(line:find("{", 1, true), line)
         assert.falsy(line:find("right", 1, true), line)
      end
   end)
end)
