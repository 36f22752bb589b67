local core = require("popd.core")
local sha256 = require("popd.fs").sha256
local testing = require("popd.testing")

describe("digest", function()
   it("makes the MD5 of RFC 1321's examples", function()
      assert.equal("d41d8cd98f00b204e9800998ecf8427e", testing.md5(""))
      assert.equal("900150983cd24fb0d6963f7d28e17f72", testing.md5("abc"))
   end)

   it("makes the SHA-256 of FIPS 180's examples", function()
      assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", sha256(""))
      assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", sha256("abc"))
   end)

   it("makes the same SHA-256 of pieces", function()
      assert.equal(sha256("abc"), testing.sha256_pieces("a", "", "bc"))
      assert.equal(sha256(""), testing.sha256_pieces())
   end)

   for _, case in ipairs {
      { "", "", true },
      { "", "a", false },
      { "a", "", false },
      { "abc", "abc", true },
      { "abc", "abd", false },
      { "abc", "bbc", false },
      { "abc", "ab", false },
      { "ab", "abc", false },
      { "a", "aaaa", false },
      { "a\0b", "a\0b", true },
      { "a\0b", "a\0c", false },
   } do
      it(("finds %q and %q %s"):format(case[1], case[2], case[3] and "equal" or "different"), function()
         assert.equal(case[3], core.equal(case[1], case[2]))
      end)
   end

   -- RFC 1939, section 7
   local stamp, secret = "<1896.697170952@dbc.mtview.ca.us>", "tanstaaf"
   local right = "c4c9334bac560ecc979e58001b3e22fb"

   it("takes the APOP digest of RFC 1939's example, in any case of its letters", function()
      assert.is_true(core.apop(stamp, secret, right))
      assert.is_true(core.apop(stamp, secret, right:upper()))
   end)

   it("refuses every other APOP digest", function()
      assert.is_false(core.apop(stamp, "tanstaff", right))
      assert.is_false(core.apop("<1@x>", secret, right))
      for _, given in ipairs { "", right:sub(2), right .. "0", right .. "\0", ("0"):rep(32), ("\0"):rep(32) } do
         assert.is_false(core.apop(stamp, secret, given))
      end
      for i = 1, 32 do
         assert.is_false(core.apop(stamp, secret, right:sub(1, i - 1) .. "g" .. right:sub(i + 1)))
      end
   end)

   it("takes a secret of any octets, and an empty one", function()
      assert.is_true(core.apop(stamp, "", testing.md5(stamp)))
      assert.is_true(core.apop(stamp, "a\0b \255", testing.md5(stamp .. "a\0b \255")))
   end)
end)
