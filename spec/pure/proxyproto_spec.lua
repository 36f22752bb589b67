local proxyproto = require("popd.testing").proxyproto

local signature = "\r\n\r\n\0\r\nQUIT\n"

--- A version 2 header.
local function v2(command, family, block, len)
   return signature .. string.pack(">BBI2", command, family, len or #block) .. block
end

local tcp4 = "\192\0\2\1" .. "\198\51\100\2" .. string.pack(">I2I2", 4000, 110)
local tcp6 = ("\32\1\13\184" .. ("\0"):rep(11) .. "\1") .. ("\0"):rep(15) .. "\1" .. string.pack(">I2I2", 65535, 995)

--- A version 1 line from an IPv6 address.
local function from6(address)
   return ("PROXY TCP6 %s ::1 1 2\r\n"):format(address)
end

local function v6(...)
   return string.pack(">I2I2I2I2I2I2I2I2", ...)
end

-- a header                                               what it says
local good = {
   { "PROXY TCP4 192.0.2.1 198.51.100.2 4000 110\r\n", { address = "\192\0\2\1", port = 4000 } },
   { "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", { address = "\0\0\0\0", port = 0 } },
   { "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", { address = "\255\255\255\255", port = 65535 } },
   { "PROXY UNKNOWN\r\n",                              { ["local"] = true } },
   { "PROXY UNKNOWN ffff::1 what ever 1 2 3\r\n",      { ["local"] = true } },
   { from6("2001:db8:0:1:2:3:4:5"),                    { v6 = true, address = v6(0x2001, 0xdb8, 0, 1, 2, 3, 4, 5) } },
   { from6("::"),                                      { v6 = true, address = ("\0"):rep(16) } },
   { from6("::1"),                                     { v6 = true, address = v6(0, 0, 0, 0, 0, 0, 0, 1), port = 1 } },
   { from6("1::"),                                     { address = v6(1, 0, 0, 0, 0, 0, 0, 0) } },
   { from6("FE80::aBcD:1"),                            { address = v6(0xfe80, 0, 0, 0, 0, 0, 0xabcd, 1) } },
   { from6("1:2:3:4:5:6:7::"),                         { address = v6(1, 2, 3, 4, 5, 6, 7, 0) } },
   { from6("::2:3:4:5:6:7:8"),                         { address = v6(0, 2, 3, 4, 5, 6, 7, 8) } },
   { from6("::ffff:192.0.2.1"),                        { address = v6(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201) } },
   { from6("1:2:3:4:5:6:1.2.3.4"),                     { address = v6(1, 2, 3, 4, 5, 6, 0x102, 0x304) } },
   { from6("::1.2.3.4"),                               { address = v6(0, 0, 0, 0, 0, 0, 0x102, 0x304) } },
   { from6("1::1.2.3.4"),                              { address = v6(1, 0, 0, 0, 0, 0, 0x102, 0x304) } },
   { v2(0x21, 0x11, tcp4),                             { address = "\192\0\2\1", port = 4000 } },
   { v2(0x21, 0x21, tcp6),                             { v6 = true, address = tcp6:sub(1, 16), port = 65535 } },
   { v2(0x21, 0x11, tcp4 .. "\4\0\3abc"),              { address = "\192\0\2\1", port = 4000 } },
   { v2(0x21, 0x00, ""),                               { ["local"] = true } },
   { v2(0x21, 0x00, ("x"):rep(40)),                    { ["local"] = true } },
   { v2(0x21, 0x31, ("/"):rep(216)),                   { ["local"] = true } },
   { v2(0x20, 0x00, ""),                               { ["local"] = true } },
   { v2(0x20, 0x11, tcp4),                             { ["local"] = true } },
   { v2(0x20, 0xff, "short"),                          { ["local"] = true } },
   { v2(0x21, 0x11, tcp4 .. ("t"):rep(1024 - 28)),     { port = 4000 } },
}

local bad = {
   "STAT\r\n", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "\22\3\1", " PROXY", "\r\n\r\n\r", "PROXX", "PROXY\r\n",
   "PROXY TCP4 192.0.2.1 198.51.100.2 4000 110\n",
   "PROXY TCP4 192.0.2.1 198.51.100.2 4000 110 \r\n",
   "PROXY TCP4 192.0.2.1 198.51.100.2 4000\r\n",
   "PROXY TCP4  192.0.2.1 198.51.100.2 4000 110\r\n",
   "PROXY TCP4 192.0.2.256 198.51.100.2 4000 110\r\n",
   "PROXY TCP4 192.0.2 198.51.100.2 4000 110\r\n",
   "PROXY TCP4 192.0.2.1.1 198.51.100.2 4000 110\r\n",
   "PROXY TCP4 192.0.02.1 198.51.100.2 4000 110\r\n",
   "PROXY TCP4 192.0.00.1 198.51.100.2 4000 110\r\n",
   "PROXY TCP4 192.0.2.1 198.51.100.x 4000 110\r\n",
   "PROXY TCP4 192.0.2.1 198.51.100.2 65536 110\r\n",
   "PROXY TCP4 192.0.2.1 198.51.100.2 040 110\r\n",
   "PROXY TCP4 192.0.2.1 198.51.100.2 -1 110\r\n",
   "PROXY TCP4 192.0.2.1 198.51.100.2 4000 99999\r\n",
   "PROXY TCP4 ::1 ::1 4000 110\r\n", "PROXY TCP4\r\n", "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
   "PROXY UNKNOWNS\r\n", "PROXY \r\n", "PROXY UNKNOWN\n",
   from6("192.0.2.1"), from6(""), from6(":"), from6(":::"), from6(":1"), from6("1:"), from6("1::2::3"),
   from6("1:2:3:4:5:6:7"), from6("1:2:3:4:5:6:7:8:9"), from6("1:2:3:4:5:6:7:8::"), from6("::1:2:3:4:5:6:7:8"),
   from6("12345::"), from6("g::"), from6("1.2.3.4::"), from6("::1.2.3"), from6("::1.2.3.4.5"), from6("::1.2.3.4:1"),
   from6("1:2:3:4:5:6:7:1.2.3.4"), from6("fe80::1%eth0"), from6("::ffff:1000.0.0.1"), from6("1:2:3:4::5:6:7:8"),
   ("PROXY UNKNOWN "):rep(9),
   v2(0x11, 0x11, tcp4), v2(0x22, 0x11, tcp4), v2(0x01, 0x11, tcp4), v2(0x2f, 0x11, tcp4),
   v2(0x21, 0x12, tcp4), v2(0x21, 0x41, tcp4), v2(0x21, 0x13, tcp4), v2(0x21, 0x22, tcp6),
   v2(0x21, 0x11, tcp4:sub(2)), v2(0x21, 0x21, tcp4), v2(0x21, 0x31, tcp4), v2(0x21, 0x11, ""),
   v2(0x21, 0x11, "", 1009), v2(0x20, 0x00, "", 65535),
}

describe("proxyproto", function()
   for _, case in ipairs(good) do
      local header, expected = case[1], case[2]
      it(("takes %q, and nothing behind it"):format(header), function()
         local status, used, found = proxyproto(header .. "USER ann\r\n")
         assert.equal("done", status)
         assert.equal(#header, used)
         assert.equal(expected["local"] or false, found["local"])
         for field, value in pairs(expected) do
            assert.equal(value, found[field], field)
         end
      end)

      it(("asks for more of %q until it is whole"):format(header), function()
         for len = 0, #header - 1 do
            assert.equal("more", (proxyproto(header:sub(1, len))))
         end
         assert.equal("done", (proxyproto(header)))
      end)
   end

   for _, bytes in ipairs(bad) do
      it(("refuses %q"):format(bytes), function()
         assert.equal("bad", (proxyproto(bytes)))
      end)
   end

   it("does not wait for the end of a line that is too long", function()
      assert.equal("more", (proxyproto("PROXY UNKNOWN " .. ("x"):rep(106 - 14))))
      assert.equal("bad", (proxyproto("PROXY UNKNOWN " .. ("x"):rep(107 - 14))))
      assert.equal("done", (proxyproto("PROXY UNKNOWN " .. ("x"):rep(105 - 14) .. "\r\n")))
      assert.equal("bad", (proxyproto("PROXY UNKNOWN " .. ("x"):rep(106 - 14) .. "\r\n")))
   end)

   it("refuses what is no header at its first wrong octet", function()
      assert.equal("more", (proxyproto("PROXY")))
      assert.equal("bad", (proxyproto("PROXyz")))
      assert.equal("more", (proxyproto(signature:sub(1, 11))))
      assert.equal("bad", (proxyproto(signature:sub(1, 11) .. "x")))
   end)
end)
