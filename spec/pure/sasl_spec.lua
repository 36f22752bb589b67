local sasl = require("popd.core").sasl

local nonce = "fyko+d2lbbFgONRv9qkxdawL"
local token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="

-- kind, message, its fields
local good = {
   -- RFC 4616, section 4
   { "PLAIN", "\0tim\0tanstaaftanstaaf", { name = "tim", secret = "tanstaaftanstaaf" } },
   { "PLAIN", "Ursel\0Kurt\0xipj3plmq", { authzid = "Ursel", name = "Kurt", secret = "xipj3plmq" } },
   { "PLAIN", "\0J\u{F6}rg M\0 \u{20AC}= ,", { name = "J\u{F6}rg M", secret = " \u{20AC}= ," } },
   { "PLAIN", "\0" .. ("n"):rep(1024) .. "\0" .. ("s"):rep(1024),
      { name = ("n"):rep(1024), secret = ("s"):rep(1024) } },
   -- RFC 2195, section 2
   { "CRAM-MD5", "tim b913a602c7eda7a495b4e6e7334d3890",
      { name = "tim", digest = "b913a602c7eda7a495b4e6e7334d3890" } },
   { "CRAM-MD5", "a name B913A602C7EDA7A495B4E6E7334D3890",
      { name = "a name", digest = "B913A602C7EDA7A495B4E6E7334D3890" } },
   -- RFC 5802, section 5
   { "SCRAM-FIRST", "n,,n=user,r=" .. nonce,
      { gs2 = "n,,", flag = "n", name = "user", nonce = nonce, bare = "n=user,r=" .. nonce } },
   { "SCRAM-FIRST", "y,a=a=3Db,n=x=2C=3D=2C,r=!,x=a=b,Y=1",
      { gs2 = "y,a=a=3Db,", flag = "y", authzid = "a=b", name = "x,=,", nonce = "!",
         bare = "n=x=2C=3D=2C,r=!,x=a=b,Y=1" } },
   { "SCRAM-FIRST", "p=tls-server-end-point,,n=\u{E9},r=a",
      { gs2 = "p=tls-server-end-point,,", flag = "p", binding = "tls-server-end-point", name = "\u{E9}", nonce = "a",
         bare = "n=\u{E9},r=a" } },
   { "SCRAM-FINAL", "c=biws,r=" .. nonce .. "3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
      { channel = "biws", nonce = nonce .. "3rfcNHYJY1ZVvWVs7j", proof = "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
         bare = "c=biws,r=" .. nonce .. "3rfcNHYJY1ZVvWVs7j" } },
   { "SCRAM-FINAL", "c=biws,r=a,x=1,z=2,p=AAAA",
      { channel = "biws", nonce = "a", proof = "AAAA", bare = "c=biws,r=a,x=1,z=2" } },
   -- RFC 7628, section 4.1
   { "OAUTHBEARER", "n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer " .. token .. "\1\1",
      { gs2 = "n,a=user@example.com,", flag = "n", authzid = "user@example.com", secret = token } },
   { "OAUTHBEARER", "y,,\1auth=bEARER  a.b-c_d~e+f/g=\1what=ever a=b\tc\1\1",
      { gs2 = "y,,", flag = "y", secret = "a.b-c_d~e+f/g=" } },
   -- section 4.3: where does one get a token?
   { "OAUTHBEARER", "n,a=user,\1auth=\1\1", { gs2 = "n,a=user,", flag = "n", authzid = "user" } },
   { "OAUTHBEARER", "n,,\1auth=Bearer " .. ("t"):rep(8000) .. "\1\1",
      { gs2 = "n,,", flag = "n", secret = ("t"):rep(8000) } },
   { "XOAUTH2", "user=someuser@example.com\1auth=Bearer " .. token .. "\1\1",
      { name = "someuser@example.com", secret = token } },
}

local bad = {
   { "PLAIN", "", "\0", "\0\0", "tim", "tim\0secret", "\0\0secret", "\0tim\0", "\0tim\0se\0cret", "\0tim\0secret\0",
      "\0t\255m\0secret", "\0tim\0\237\160\128", "\0" .. ("n"):rep(1025) .. "\0s", "\0n\0" .. ("s"):rep(1025),
      ("a"):rep(1025) .. "\0n\0s" },
   { "CRAM-MD5", "", " ", "tim", "tim ", " b913a602c7eda7a495b4e6e7334d3890", "b913a602c7eda7a495b4e6e7334d3890",
      "tim b913a602c7eda7a495b4e6e7334d389", "tim b913a602c7eda7a495b4e6e7334d38900",
      "tim b913a602c7eda7a495b4e6e7334d389g", "tim b913a602c7eda7a495b4e6e7334d3890 ",
      "ti\0 b913a602c7eda7a495b4e6e7334d3890", "ti\255 b913a602c7eda7a495b4e6e7334d3890",
      ("n"):rep(1025) .. " b913a602c7eda7a495b4e6e7334d3890" },
   { "SCRAM-FIRST", "", ",", ",,", "n", "n,", "n,,", "n,,n=u", "n,,n=u,", "n,,n=u,r=", "n,,r=a", "n,,r=a,n=u",
      "n,n=u,r=a",
      "N,,n=u,r=a", "x,,n=u,r=a", "nn,,n=u,r=a", "p,,n=u,r=a", "p=,,n=u,r=a", "p=tls exporter,,n=u,r=a",
      "p=tls_x,,n=u,r=a", "n,a=,n=u,r=a", "n,b=x,n=u,r=a", "n,a=x=,n=u,r=a", "n,,n=,r=a", "n,,n=u=2c,r=a",
      "n,,n=u=3d,r=a",
      "n,,n=u=,r=a", "n,,n=u=20,r=a", "n,,n=u=2,r=a", "n,,m=x,n=u,r=a", "n,,n=u,m=x,r=a", "n,,n=u,r=a,m=x",
      "n,,n=u,r=a,", "n,,n=u,r=a,x", "n,,n=u,r=a,x=", "n,,n=u,r=a,1=x", "n,,n=u,r=a,n=other", "n,,n=u,r=a,r=b",
      "n,,n=u,r=a,p=b", "n,,n=u,r=a b", "n,,n=u,r=a\u{E9}", "n,,n=u,x=1,r=a", "n,,n=u\0,r=a", "n,,n=u\255,r=a",
      "F,n,,n=u,r=a", "n,,n=" .. ("u"):rep(1025) .. ",r=a", "n,,n=u,r=" .. ("r"):rep(1025) },
   { "SCRAM-FINAL", "", "c=biws", "c=biws,", "c=biws,r=a", "c=biws,r=a,", "c=biws,r=a,p=", "c=,r=a,p=AAAA",
      "r=a,c=biws,p=AAAA",
      "c=biws,p=AAAA,r=a", "c=biw,r=a,p=AAAA", "c=b,r=a,p=AAAA", "c=bi=s,r=a,p=AAAA", "c=biws,r=,p=AAAA",
      "c=biws,r=a,p=AAA", "c=biws,r=a,p=A===", "c=biws,r=a,p=====", "c=biws,r=a,p=AAAA,x=1", "c=biws,r=a,m=1,p=AAAA",
      "c=biws,r=a,r=b,p=AAAA", "c=biws,r=a,c=biws,p=AAAA", "c=biws,r=a,x,p=AAAA", "c=biws,r=a,x=,p=AAAA",
      "c=biws,,r=a,p=AAAA", "c=biws,r=a,p=AA\0A", "c=biws,r=a\0,p=AAAA", "c=biws,r=a,,p=AAAA" },
   { "OAUTHBEARER", "", "\1", "n,,", "n,,\1", "n,,\1\1", "n,,\1auth=Bearer t\1", "n,,\1auth=Bearer t",
      "n,,\1auth=Bearer \1\1",
      "n,,\1auth=Bearer\1\1", "n,,\1auth=Basic t\1\1", "n,,\1auth=Bearer t=t\1\1", "n,,\1auth=Bearer ==\1\1",
      "n,,\1auth=Bearer t\1\1x", "n,,\1auth=Bearer t\1\1\1", "n,,\1\1auth=Bearer t\1\1",
      "n,,\1auth=Bearer t\1auth=Bearer u\1\1", "n,,\1host\1auth=Bearer t\1\1", "n,,\1=x\1auth=Bearer t\1\1",
      "n,,\1h-x=y\1auth=Bearer t\1\1", "n,,\1host=h\u{E9}\1auth=Bearer t\1\1", "n,,\1host=h\1\1",
      "n,,auth=Bearer t\1\1",
      "p=tls-exporter,,\1auth=Bearer t\1\1", "n,user,\1auth=Bearer t\1\1", "n,a=u\1auth=Bearer t\1\1",
      "n,,\1auth=Bearer t\0\1\1", "n,,\1auth=Bearer t t\1\1", "n,a=" .. ("u"):rep(1025) .. ",\1auth=Bearer t\1\1" },
   { "XOAUTH2", "", "\1", "user=u", "user=\1auth=Bearer t\1\1", "user=u\1auth=Bearer t\1", "user=u\1auth=Bearer t",
      "user=u\1auth=Bearer t\1\1\1", "user=u\1auth=\1\1", "user=u\1auth=Bearer \1\1", "user=u\1auth=Basic t\1\1",
      "auth=Bearer t\1user=u\1\1", "user=u\1user=v\1auth=Bearer t\1\1", "user=u\0\1auth=Bearer t\1\1",
      "user=\255\1auth=Bearer t\1\1", "USER=u\1auth=Bearer t\1\1",
      "user=" .. ("u"):rep(1025) .. "\1auth=Bearer t\1\1" },
}

describe("sasl", function()
   for _, case in ipairs(good) do
      it(("takes %s's %q apart"):format(case[1], case[2]:sub(1, 70)), function()
         assert.same(case[3], sasl(case[1], case[2]))
      end)
   end

   for _, list in ipairs(bad) do
      for i = 2, #list do
         it(("refuses %s's %q"):format(list[1], list[i]:sub(1, 70)), function()
            local fields, why = sasl(list[1], list[i])
            assert.is_nil(fields)
            assert.truthy(#why > 5)
         end)
      end
   end

   -- An end that is cut off is no message of its own, where the end is marked.
   for _, case in ipairs(good) do
      local kind, message = case[1], case[2]
      if kind == "OAUTHBEARER" or kind == "XOAUTH2" or kind == "CRAM-MD5" then
         it(("refuses every beginning of %s's %q"):format(kind, message:sub(1, 70)), function()
            for n = 0, #message - 1 do
               assert.is_nil((sasl(kind, message:sub(1, n))))
            end
         end)
      end
   end

   it("never repeats a secret when it says what is wrong", function()
      local _, why = sasl("PLAIN", "\0joe\0open\0sesame")
      assert.is_nil(why:find("sesame", 1, true))
      assert.is_nil(why:find("joe", 1, true))
   end)

   it("raises for a message that it does not know", function()
      assert.has_error(function() sasl("PLANE", "") end)
   end)
end)
