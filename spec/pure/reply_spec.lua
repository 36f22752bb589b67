local testing = require("popd.testing")

-- what is said                                     the reply
local cases = {
   { { true, nil, "" },                             "+OK\r\n" },
   { { true, nil, "hello" },                        "+OK hello\r\n" },
   { { false, nil, "" },                            "-ERR\r\n" },
   { { false, nil, "no such message" },             "-ERR no such message\r\n" },
   { { false, "IN-USE", "locked" },                 "-ERR [IN-USE] locked\r\n" },
   { { false, "SYS/TEMP", "" },                     "-ERR [SYS/TEMP]\r\n" },
   { { true, "X", "y" },                            "+OK [X] y\r\n" },
   { { false, "AUTH", "[no]" },                     "-ERR [AUTH] [no]\r\n" },
   { { true, nil, "gr\195\188n \255" },             "+OK gr\195\188n \255\r\n" },
   -- RFC 2449, section 6.4: a text that begins with '[' would be a code
   { { false, nil, "[AUTH] guessed" },              "-ERR ?AUTH] guessed\r\n", "controls" },
   { { false, "bad code", "[AUTH]" },               "-ERR ?AUTH]\r\n", "controls", "bad_code" },
   { { false, nil, "a\r\n+OK b" },                  "-ERR a??+OK b\r\n", "controls" },
   { { true, nil, "\0\t\27\127" },                  "+OK ????\r\n", "controls" },
   { { false, "", "text" },                         "-ERR text\r\n", "bad_code" },
   { { false, "A B", "text" },                      "-ERR text\r\n", "bad_code" },
   { { false, "A]\r\n+OK", "text" },                "-ERR text\r\n", "bad_code" },
}

local code_cases = {
   { "AUTH", true },
   { "SYS/TEMP", true },
   { "a/b/c", true },
   { "LOGIN-DELAY", true },
   { "!#$%&'()*+,-.[^_~", true },
   { ("x"):rep(64), true },
   { ("x"):rep(65), false },
   { "", false },
   { "/", false },
   { "/A", false },
   { "A/", false },
   { "A//B", false },
   { "A]", false },
   { "A B", false },
   { "A\0", false },
   { "A\127", false },
   { "\195\188", false },
}

describe("reply", function()
   for _, case in ipairs(cases) do
      local said, expected = case[1], case[2]
      it(("makes %q"):format(expected), function()
         local faults = { controls = false, cut = false, bad_code = false }
         for i = 3, #case do
            faults[case[i]] = true
         end
         assert.same({ expected, faults }, { testing.reply_text(said[1], said[2], said[3]) })
      end)
   end

   for _, case in ipairs(code_cases) do
      it(("%s the code %q"):format(case[2] and "takes" or "refuses", case[1]), function()
         assert.equal(case[2], testing.reply_code_ok(case[1]))
      end)
   end

   it("says +OK and -ERR", function()
      assert.equal("+OK bye\r\n", testing.reply_ok("bye"))
      assert.equal("-ERR no\r\n", testing.reply_err(nil, "no"))
      assert.equal("-ERR [AUTH] no\r\n", testing.reply_err("AUTH", "no"))
   end)

   it("fills a status line up to 512 octets, and cuts what is longer", function()
      local fits = ("x"):rep(512 - #"+OK \r\n")
      assert.same({ "+OK " .. fits .. "\r\n", { controls = false, cut = false, bad_code = false } },
         { testing.reply_text(true, nil, fits) })
      assert.same({ "+OK " .. fits .. "\r\n", { controls = false, cut = true, bad_code = false } },
         { testing.reply_text(true, nil, fits .. "x") })
   end)

   it("cuts no UTF-8 sequence in two", function()
      for _, char in ipairs { "\195\188", "\226\130\172", "\240\159\152\128" } do
         for lead = 0, 4 do
            local reply = testing.reply_text(false, "SYS/TEMP", ("x"):rep(lead) .. char:rep(300))
            assert.is_true(#reply <= 512 and #reply > 512 - #char)
            assert.truthy(utf8.len(reply))
         end
      end
   end)

   it("cuts octets that are no UTF-8 anywhere", function()
      local reply = testing.reply_text(true, nil, ("\128"):rep(600))
      assert.equal(512, #reply)
   end)

   it("makes one line of at most 512 octets of any octets", function()
      math.randomseed(3206)
      for _ = 1, 500 do
         local octets = {}
         for i = 1, math.random(0, 900) do
            octets[i] = string.char(math.random(0, 255))
         end
         local text = table.concat(octets)
         local code = math.random(2) == 1 and text:sub(1, math.random(0, 8)) or nil
         local reply = testing.reply_text(math.random(2) == 1, code, text)
         assert.is_true(#reply <= 512)
         assert.equal("\r\n", reply:sub(-2))
         assert.is_nil(reply:sub(1, -3):find("[%z\1-\31\127]"))
      end
   end)

   it("dot-stuffs a line of a multi-line reply", function()
      assert.equal("plain\r\n", (testing.reply_line("plain")))
      assert.equal("\r\n", (testing.reply_line("")))
      assert.equal("..\r\n", (testing.reply_line(".")))
      assert.equal("..a.b\r\n", (testing.reply_line(".a.b")))
      assert.equal("a??.?\r\n", (testing.reply_line("a\r\n.\0")))
      assert.is_true(select(2, testing.reply_line("\n")).controls)
   end)

   it("cuts a line of a multi-line reply as it cuts a status line", function()
      assert.equal(("x"):rep(510) .. "\r\n", (testing.reply_line(("x"):rep(510))))
      assert.equal(("x"):rep(510) .. "\r\n", (testing.reply_line(("x"):rep(2000))))
   end)

   it("makes items and their end", function()
      assert.equal("1 120\r\n", testing.reply_item(1, "120"))
      assert.equal("0 x\r\n", testing.reply_item(0, "x"))
      assert.equal("18446744073709551615 .x?\r\n", testing.reply_item(-1, ".x\n"))
      assert.equal(".\r\n", testing.reply_end())
   end)
end)
