-- What the callbacks of `make soak` talk to: says each tag again, some of them late.
local popd = require("popd")

local server = popd.new("echo", {
   port = 0, address = "127.0.0.1", max_per_address = false, login_timeout = false, max_bad_commands = false,
   commands = { XECHO = { states = "auth", run = function(_, tag)
      if math.random(20) == 1 then
         popd.sleep(math.random() * 0.02)
      end
      return tag
   end } },
}):up()

print("port=" .. server:cget("port"))
io.stdout:flush()
