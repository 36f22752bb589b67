-- What a scanner finds of a server with the default options: an eye that is not
-- ours on versions, suites and known holes.
local client = require("support.client")
local tls = require("support.tls")

local function installed()
   return os.execute("command -v sslscan >/dev/null 2>&1") == true
end

-- What it calls strong; and those of TLS 1.3, which it calls acceptable: their names do not
-- tell of ECDHE, as those of TLS 1.2 do.
local function is_strong(cipher)
   return cipher:find('strength="strong"', 1, true)
      or cipher:find('sslversion="TLSv1.3"', 1, true) and cipher:find('strength="acceptable"', 1, true)
end

local WEAK = { "RC4", "DES", "NULL", "EXP", "anon", "ADH", "MD5", "CBC", "SHA$" }

describe("sslscan", function()
   local pki

   lazy_setup(function()
      pki = tls.new_pki()
      pki:make("ec")
      pki:make("rsa", { kind = "rsa" })
   end)

   lazy_teardown(function()
      pki:remove()
   end)

   after_each(client.finish)

   -- The scan of a server: its report, and the parts of it of one kind.
   local function scan(pair, mode)
      local server = client.server { tls = pki:pair(pair, { mode = mode }), max_per_address = false }
      local flag = mode == "stls" and "--starttls-pop3 " or ""
      local report = tls.beside("sslscan " .. flag .. "--xml=- 127.0.0.1:%s", server:cget("port"))
      return report, function(kind)
         return report:gmatch("<" .. kind .. " ([^>]*)/>")
      end
   end

   for _, pair in ipairs { "ec", "rsa" } do
      for _, mode in ipairs { "implicit", "stls" } do
         it(("finds nothing weak (%s certificate, %s)"):format(pair, mode), function()
            if not installed() then
               return pending("sslscan is not installed (make peers)")
            end
            local report, each = scan(pair, mode)
            assert.truthy(report:find("</ssltest>", 1, true), report)
            for protocol in each("protocol") do
               local version = tonumber(protocol:match('version="(.-)"'))
               local is_modern = protocol:find('type="tls"', 1, true) and version >= 1.2
               assert.truthy(is_modern or protocol:find('enabled="0"', 1, true), protocol)
            end
            assert.truthy(report:find('version="1.2" enabled="1"', 1, true), report)
            local suites = 0
            for cipher in each("cipher") do
               local name = cipher:match('cipher="(.-)"')
               suites = suites + 1
               assert.truthy(is_strong(cipher), cipher)
               for _, weak in ipairs(WEAK) do
                  assert.is_nil(name:find(weak), name)
               end
               assert.truthy(name:find("^ECDHE%-") or name:find("^TLS_"), name)
            end
            assert.is_true(suites >= 3, report)
            for renegotiation in each("renegotiation") do
               assert.truthy(renegotiation:find('supported="0"', 1, true), renegotiation)
            end
            for heartbleed in each("heartbleed") do
               assert.truthy(heartbleed:find('vulnerable="0"', 1, true), heartbleed)
            end
            for compression in each("compression") do
               assert.truthy(compression:find('supported="0"', 1, true), compression)
            end
         end)
      end
   end

   it("would tell of what is weak", function()
      if not installed() then
         return pending("sslscan is not installed (make peers)")
      end
      local server = client.server {
         tls = pki:pair("rsa", { mode = "implicit", ciphers = { "TLS-RSA-WITH-AES-128-CBC-SHA" } }),
         max_per_address = false,
      }
      local report = tls.beside("sslscan --xml=- 127.0.0.1:%s", server:cget("port"))
      assert.truthy(report:find('cipher="AES128-SHA"', 1, true), report)
   end)
end)
