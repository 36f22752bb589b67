--- SCRAM as a client does it (RFC 5802), for specs.
local core = require("popd.core")

local scram = {}

local function xor(a, b)
   local octets = {}
   for i = 1, #a do
      octets[i] = string.char(a:byte(i) ~ b:byte(i))
   end
   return table.concat(octets)
end

local SIZES = { ["SHA-1"] = 20, ["SHA-256"] = 32 }

--- The keys of a password.
function scram.keys(hash, password, salt, iterations)
   local salted = core.pbkdf2(hash, password, salt, iterations, SIZES[hash])
   local client = core.hmac(hash, salted, "Client Key")
   return { client = client, stored = core.digest(hash, client), server = core.hmac(hash, salted, "Server Key") }
end

--- What popd.scheme stores of a password.
function scram.entry(hash, password, salt, iterations)
   local keys = scram.keys(hash, password, salt, iterations)
   return ("{SCRAM-%s}%d,%s,%s,%s"):format(hash, iterations, core.base64(salt), core.base64(keys.stored),
      core.base64(keys.server))
end

--- A client: `first` is its first message.
-- @tparam table o `hash`, `name`, `password`, and perhaps `gs2`, `binding` (octets), `nonce`
function scram.client(o)
   local self = { nonce = o.nonce or core.base64(core.random(12)), gs2 = o.gs2 or "n,," }
   self.bare = ("n=%s,r=%s"):format(o.name, self.nonce)
   self.first = self.gs2 .. self.bare

   --- Takes the server's first message apart.
   function self.challenged(challenge)
      local nonce, salt, iterations = challenge:match("^r=([^,]+),s=([^,]+),i=(%d+)$")
      return { nonce = nonce, salt = core.unbase64(salt), iterations = math.tointeger(iterations) }
   end

   --- The last message, and what the server must say to it.  `change` may alter
   -- what was understood of the challenge.
   function self.final(challenge, change)
      local m = self.challenged(challenge)
      m.channel = core.base64(self.gs2 .. (o.binding or ""))
      if change then
         change(m)
      end
      local bare = ("c=%s,r=%s"):format(m.channel, m.nonce)
      local message = self.bare .. "," .. challenge .. "," .. bare
      local keys = scram.keys(o.hash, o.password, m.salt, m.iterations)
      local proof = xor(keys.client, core.hmac(o.hash, keys.stored, message))
      return bare .. ",p=" .. core.base64(m.proof or proof),
         "v=" .. core.base64(core.hmac(o.hash, keys.server, message))
   end

   return self
end

return scram
