local base64 = require("popd.core").base64
local unbase64 = require("popd.testing").unbase64

-- RFC 4648, section 10, and octets that need the last two letters
local pairs_of = {
   { "",                 "" },
   { "f",                "Zg==" },
   { "fo",               "Zm8=" },
   { "foo",              "Zm9v" },
   { "foob",             "Zm9vYg==" },
   { "fooba",            "Zm9vYmE=" },
   { "foobar",           "Zm9vYmFy" },
   { "\0",               "AA==" },
   { "\0ann\0secret",    "AGFubgBzZWNyZXQ=" },
   { "\xff\xff\xff",     "////" },
   { "\xfb\xef\xbe",     "++++" },
}

-- what is no base64, and why
local bad = {
   { "Z",        "a lone letter" },
   { "Zg",       "no padding" },
   { "Zg=",      "half the padding" },
   { "Zg===",    "too much padding" },
   { "=",        "padding alone" },
   { "====",     "padding alone" },
   { "Z===",     "one letter and padding" },
   { "=Zg=",     "padding first" },
   { "Zg==Zg==", "padding in the midst" },
   { "Zm9=",     "bits that are not zero" },
   { "Zh==",     "bits that are not zero" },
   { "Zm9v\n",   "a line end" },
   { "Zm9 ",     "a blank" },
   { " Zm9v",    "a blank" },
   { "Zm-v",     "the alphabet for URLs" },
   { "Zm_v",     "the alphabet for URLs" },
   { "Zm9\0",    "NUL" },
   { "Zm9\xe4",  "an octet of 8 bits" },
   { "Zm9@",     "what stands before A" },
   { "Zm9[",     "what stands behind Z" },
   { "Zm9`",     "what stands before a" },
   { "Zm9{",     "what stands behind z" },
   { "Zm9:",     "what stands behind 9" },
   { "Zm9.",     "what stands before /" },
   { "Zm9,",     "what stands behind +" },
   { "*",        "a cancel" },
}

describe("base64", function()
   for _, case in ipairs(pairs_of) do
      it(("writes %q as %q, and reads it"):format(case[1], case[2]), function()
         assert.equal(case[2], base64(case[1]))
         assert.equal(case[1], unbase64(case[2]))
      end)
   end

   for _, case in ipairs(bad) do
      it(("refuses %q: %s"):format(case[1], case[2]), function()
         assert.is_nil(unbase64(case[1]))
      end)
   end

   it("reads what it wrote, and nothing else that stands for the same", function()
      math.randomseed(4648)
      local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
      for _ = 1, 500 do
         local octets = {}
         for i = 1, math.random(0, 40) do
            octets[i] = string.char(math.random(0, 255))
         end
         local all = table.concat(octets)
         local text = base64(all)
         assert.equal(all, unbase64(text))
         if #text > 0 then
            local at, letter = math.random(#text), math.random(#alphabet)
            local other = text:sub(1, at - 1) .. alphabet:sub(letter, letter) .. text:sub(at + 1)
            local read = unbase64(other)
            assert.is_true(read == nil or base64(read) == other)
            assert.is_true(other == text or read ~= all)
         end
      end
   end)
end)
