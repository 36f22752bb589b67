-- What clients at rest cost: bench/resting.lua measures it, here it has a limit.
local files = require("support.files")

-- KiB that TLS may add to a client at rest; two buffers of a record's size are 33.
local MOST = 20

describe("a client at rest", function()
   it("has no buffers of a record's size for its TLS", function()
      if os.getenv("POPD_INTERPRETER") then
         return pending("a sanitizer's memory is not the server's")
      end
      local out = os.tmpname()
      files.run(files.interpreter .. " bench/resting.lua 200 >%s", out)
      local text = files.text(out)
      os.remove(out)
      local plain, tls = text:match("plain: ([%d.]+) KiB.*TLS: ([%d.]+) KiB")
      assert.is_true(tonumber(tls) - tonumber(plain) < MOST, text)
   end)
end)
