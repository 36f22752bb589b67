--- What a server serves TLS with: checks of the option `tls`, and its loading.
--
--     tls = {
--        cert = "/etc/popd/cert.pem", key = "/etc/popd/key.pem",
--        sni = { ["pop.example.net"] = { cert = …, key = … }, ["*.example.net"] = … },
--     }
--
-- | key | |
-- | --- | --- |
-- | `cert`, `key` | paths of PEM files; needed |
-- | `mode` | `"stls"` (default) or `"implicit"` |
-- | `sni` | `{ cert =, key = }` by host name; `*` for one label in front |
-- | `client_ca` | path (PEM): clients are asked for certificates |
-- | `ticket_keys` | path: 1 to 8 keys of 48 octets, the newest first; absent: keys of its own |
-- | `min` | `"1.2"` (default) or `"1.3"` |
-- | `ciphers` | a list of suites' names; absent: ECDHE with AES-GCM or ChaCha20-Poly1305 |
--
-- @module popd.tls
local core = require("popd.core")

local tls = {}

local texts = { cert = true, key = true, client_ca = true, ticket_keys = true, mode = true, min = true, ciphers = true }
local modes = { stls = true, implicit = true }
local versions = { ["1.2"] = true, ["1.3"] = true }

local function is_path(value)
   return type(value) == "string" and value ~= "" and not value:find("\0", 1, true)
end

local function check_pair(pair, where)
   if type(pair) ~= "table" or not is_path(pair.cert) or not is_path(pair.key) then
      return where .. " needs cert and key, paths of PEM files"
   end
end

local function check_sni(sni)
   if type(sni) ~= "table" then
      return 'sni is a table of { ["pop.example.org"] = { cert =, key = } }'
   end
   local count = 0
   for host, pair in pairs(sni) do
      if type(host) ~= "string" or not (host:find("^[%w_%-]+[%w_%.%-]*$") or host:find("^%*%.[%w_%.%-]+$")) then
         return "sni: '" .. tostring(host) .. "' is not a host name"
      end
      local wrong = check_pair(pair, "sni['" .. host .. "']")
      if wrong then
         return wrong
      end
      count = count + 1
   end
   return count > 255 and "sni: more than 255 certificates" or nil
end

local function check_ciphers(ciphers)
   if type(ciphers) ~= "table" or #ciphers == 0 then
      return 'ciphers is a list of names, { "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" }'
   end
   for _, name in ipairs(ciphers) do
      if type(name) ~= "string" or not name:find("^[%w_%-]+$") then
         return "ciphers: '" .. tostring(name) .. "' is no name of a cipher suite"
      end
   end
end

--- What is wrong with a value of the option, or nil.
-- @param value
-- @treturn ?string
function tls.check(value)
   if type(value) ~= "table" then
      return "a table { cert =, key = } expected"
   end
   for key, v in pairs(value) do
      if not texts[key] and key ~= "sni" then
         return ("no key '%s'; there are: cert, key, sni, mode, min, ciphers, client_ca, ticket_keys"):format(
            tostring(key))
      elseif (key == "client_ca" or key == "ticket_keys") and not is_path(v) then
         return key .. " is a path"
      end
   end
   if value.mode ~= nil and not modes[value.mode] then
      return 'mode is "stls" or "implicit"'
   elseif value.min ~= nil and not versions[value.min] then
      return 'min is "1.2" or "1.3"'
   end
   return check_pair(value, "tls") or value.sni ~= nil and check_sni(value.sni)
      or value.ciphers ~= nil and check_ciphers(value.ciphers) or nil
end

-- The core's form of a checked value.
local function spec_of(value)
   local pairs_ = { { cert = value.cert, key = value.key } }
   for host, pair in pairs(value.sni or {}) do
      pairs_[#pairs_ + 1] = { host = host, cert = pair.cert, key = pair.key }
   end
   return {
      pairs = pairs_,
      client_ca = value.client_ca,
      ticket_keys = value.ticket_keys,
      suites = value.ciphers and table.concat(value.ciphers, " "),
      tls13_only = value.min == "1.3",
   }
end

--- What a listener serves TLS with.  Nothing is read yet.
-- @treturn site
function tls.site()
   return core.tls_site()
end

--- Reads the certificates and keys of a checked value; the site serves with them
-- from the next handshake on.
-- @param site
-- @tparam table value
-- @treturn boolean true, or nil and the reason: then it serves on as before
function tls.load(site, value)
   return site:load(spec_of(value))
end

return tls
