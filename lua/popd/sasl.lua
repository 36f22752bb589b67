--- SASL's mechanisms (RFC 4422), as AUTH uses them (RFC 5034).
--
-- A mechanism is a step function: bytes in, bytes out.  `step(bytes, state, conn)`
-- gets what the client sent, nil if that was no response at all, and a table that
-- is this exchange's alone.  It may wait, and returns
--
-- - a string: a challenge, the exchange goes on;
-- - `true, name, mbox`: that user may enter;
-- - nil: refused; `nil, reason`: a fault.
--
-- Those that are built in get a fourth argument, the exchange of popd.login,
-- which asks the site's functions.
-- @module popd.sasl
local core = require("popd.core")

local sasl = {}

local PASSWORD_MAX = 1024 -- octets

--- What makes the server's part of a SCRAM nonce; specs put another here.
function sasl.nonce()
   return core.base64(core.random(18))
end

--- What makes the challenge of CRAM-MD5; specs put another here.
function sasl.challenge()
   local first, second = string.unpack("I8I8", core.random(16))
   return ("<%016x.%016x@popd.lua>"):format(first, second)
end

-- What clients may send -----------------------------------------------------------

local function malformed(x, why)
   return x:refuse(("this is no message of %s: %s"):format(x.kind, why))
end

-- Prepared, or nil and why there is no such name.
local function fit_name(text)
   local name, why = core.prep(text)
   if not name then
      return nil, "the name " .. why
   elseif name == "" then
      return nil, "the name is empty"
   end
   return name
end

-- Octets that may be a password: nil, or what is wrong with them.
local function wrong_password(text)
   return text == "" and "the password is empty" or #text > PASSWORD_MAX and "the password is too long"
      or text:find("\0", 1, true) and "there is a NUL" or not utf8.len(text) and "the password is no UTF-8" or nil
end

-- Takes a name: prepared, and the hook has been asked.  nil: refused.
local function take_name(x, text, authzid)
   local name, why = fit_name(text)
   if not name then
      return malformed(x, why)
   elseif authzid and fit_name(authzid) ~= name then
      return x:refuse("nobody may act as somebody else", "AUTH")
   end
   return x:named(name) and name or nil
end

-- `true, name, mbox`, or what the site said instead.
local function enter(name, mbox, bad)
   if mbox == nil then
      return nil, bad
   end
   return true, name, mbox
end

-- A mechanism whose client begins: without a response it is asked for one.
local function client_first(take)
   return function(bytes, state, conn, x)
      if not bytes then
         return ""
      end
      return (state.go_on or take)(bytes, state, conn, x)
   end
end

-- Passwords -----------------------------------------------------------------------

-- RFC 4616.
local plain = client_first(function(bytes, _, _, x)
   local m, why = core.sasl("PLAIN", bytes)
   if not m then
      return malformed(x, why)
   end
   local name = take_name(x, m.name, m.authzid)
   if not name then
      return nil
   end
   return enter(name, x:password(name, m.secret))
end)

local function take_login_password(bytes, state, _, x)
   local why = wrong_password(bytes)
   if why then
      return malformed(x, why)
   end
   return enter(state.name, x:password(state.name, bytes))
end

local function take_login_name(bytes, state, _, x)
   state.name = take_name(x, bytes)
   state.go_on = take_login_password
   return state.name and "Password:" or nil
end

-- Never a standard; clients look at the words of the challenges, if at anything.
local function login(bytes, state, conn, x)
   if not bytes then
      return "Username:"
   end
   return (state.go_on or take_login_name)(bytes, state, conn, x)
end

-- RFC 2195.
local function take_cram(bytes, state, _, x)
   local m, why = core.sasl("CRAM-MD5", bytes)
   if not m then
      return malformed(x, why)
   end
   local name = take_name(x, m.name)
   if not name then
      return nil
   end
   return enter(name, x:digest(name, function(password)
      local expected = core.hmac("MD5", password, state.challenge):gsub(".", function(octet)
         return ("%02x"):format(octet:byte())
      end)
      return core.equal(expected, m.digest:lower())
   end))
end

local function cram(bytes, state, _, x)
   if state.challenge then
      return take_cram(bytes or "", state, nil, x)
   elseif bytes then
      return malformed(x, "the server begins")
   end
   state.challenge = sasl.challenge()
   return state.challenge
end

-- SCRAM (RFC 5802) ----------------------------------------------------------------

local BINDINGS = { ["tls-exporter"] = true, ["tls-server-end-point"] = true }

-- The octets of a channel binding, nil where this connection has none.
local function binding_of(conn, name)
   return BINDINGS[name] and core.conn_binding(conn, name) or nil
end

local function can_bind(conn)
   return (binding_of(conn, "tls-exporter") or binding_of(conn, "tls-server-end-point")) ~= nil
end

-- What the flag of the GS2 header asks for (section 6): the binding's octets, ""
-- for none; nil: refused.
local function bind(m, plus, conn, x)
   if plus and m.flag ~= "p" then
      return malformed(x, "a channel binding is expected")
   elseif m.flag == "p" and not plus then
      return malformed(x, "a channel binding needs the mechanism with -PLUS")
   elseif m.flag == "p" then
      return binding_of(conn, m.binding) or x:refuse("this channel binding is not available here")
   elseif m.flag == "y" and can_bind(conn) and sasl.find(x.auth, x.kind .. "-PLUS") then
      return x:refuse("channel binding is offered here; somebody has changed what the client was told", "AUTH")
   end
   return ""
end

local function xor(a, b)
   local octets = {}
   for i = 1, #a do
      octets[i] = string.char(a:byte(i) ~ b:byte(i))
   end
   return table.concat(octets)
end

-- Whether the proof was made with the key that stored_key is the hash of.
local function is_proof(hash, keys, message, proof)
   local signature = core.hmac(hash, keys.stored_key, message)
   return #proof == #signature and core.equal(keys.stored_key, core.digest(hash, xor(proof, signature)))
end

-- RFC 5034, section 4: no data with +OK, so the client has answered the
-- server's last message before.
local function end_scram(bytes, state, _, x)
   if bytes ~= "" then
      return malformed(x, "an empty answer is expected at the end")
   end
   return true, state.name, state.mbox
end

local function take_final(hash)
   return function(bytes, state, _, x)
      local m, why = core.sasl("SCRAM-FINAL", bytes)
      local proof = m and core.unbase64(m.proof)
      if not proof then
         return malformed(x, why or "the proof is no base64")
      elseif not core.equal(state.nonce, m.nonce) then
         return x:refuse("the nonce is not that of this exchange", "AUTH")
      elseif not core.equal(state.channel, m.channel) then
         return x:refuse("the channel binding is not that of this connection", "AUTH")
      end
      local message = state.messages .. "," .. m.bare
      if not is_proof(hash, state.keys, message, proof) then
         return nil
      end
      state.go_on = end_scram
      return "v=" .. core.base64(core.hmac(hash, state.keys.server_key, message))
   end
end

local function scram(hash, plus)
   local final = take_final(hash)
   return client_first(function(bytes, state, conn, x)
      local m, why = core.sasl("SCRAM-FIRST", bytes)
      if not m then
         return malformed(x, why)
      end
      local octets = bind(m, plus, conn, x)
      local name = octets and take_name(x, m.name, m.authzid)
      if not name then
         return nil
      end
      local keys, mbox = x:scram(name, hash)
      if not keys then
         return nil, mbox
      end
      state.keys, state.name, state.mbox, state.go_on = keys, name, mbox, final
      state.nonce = m.nonce .. sasl.nonce()
      state.channel = core.base64(m.gs2 .. octets)
      local challenge = ("r=%s,s=%s,i=%d"):format(state.nonce, core.base64(keys.salt), keys.iterations)
      state.messages = m.bare .. "," .. challenge
      return challenge
   end)
end

-- Tokens --------------------------------------------------------------------------

local function json_string(text)
   return '"' .. text:gsub('[%c"\\]', function(c)
      return ("\\u%04x"):format(c:byte())
   end) .. '"'
end

-- An object of what is not nil, in the order given.
local function json(pairs_of)
   local members = {}
   for _, pair in ipairs(pairs_of) do
      if pair[2] then
         members[#members + 1] = json_string(pair[1]) .. ":" .. json_string(pair[2])
      end
   end
   return "{" .. table.concat(members, ",") .. "}"
end

-- RFC 7628, section 3.2.2.
local function bearer_error(oauth)
   return json {
      { "status", "invalid_token" }, { "scope", oauth.scope }, { "openid-configuration", oauth.discovery },
   }
end

local function xoauth2_error(oauth)
   return json { { "status", "401" }, { "schemes", "bearer" }, { "scope", oauth.scope } }
end

-- The client has read why, and says nothing of use.
local function end_token()
   return nil
end

local function with_token(kind, error_of)
   return client_first(function(bytes, state, _, x)
      local m, why = core.sasl(kind, bytes)
      if not m then
         return malformed(x, why)
      end
      local name = m.name or m.authzid or ""
      if name ~= "" then
         name, why = fit_name(name)
      end
      if not name then
         return malformed(x, why)
      elseif not x:named(name) then
         return nil
      end
      local mbox, found
      if m.secret then
         mbox, found = x:token(name, m.secret)
      end
      if mbox ~= nil or found then
         return enter(found, mbox, found)
      end
      state.go_on = end_token
      x.spurned = m.secret ~= nil -- who only asks where tokens come from has not tried one
      return error_of(x.auth.oauth or {})
   end)
end

-- Certificates --------------------------------------------------------------------

-- RFC 4422, appendix A: TLS has said already who it is.
local external = client_first(function(bytes, _, conn, x)
   local client = type(conn.tls) == "table" and conn.tls.client
   if type(client) ~= "table" then
      return x:refuse("this mechanism needs a client certificate")
   end
   local name, why = bytes, nil
   if bytes ~= "" then
      name, why = fit_name(bytes)
   end
   if not name then
      return malformed(x, why)
   elseif not x:named(name) then
      return nil
   end
   local mbox, found = x:certificate(name, client)
   return enter(found, mbox, found)
end)

-- What is offered -----------------------------------------------------------------

local function has(...)
   local names = { ... }
   return function(auth)
      for _, name in ipairs(names) do
         if auth[name] then
            return true
         end
      end
      return false
   end
end

-- Whether lookup hands out what the core can check by itself, `secrets` being
-- among these.
local function hands_out(...)
   local kinds = {}
   for _, kind in ipairs { ... } do
      kinds[kind] = true
   end
   return function(auth)
      return auth.lookup ~= nil and kinds[auth.secrets or "plain"] == true
   end
end

local sha1, sha256 = hands_out("plain", "scram", "scram-sha-1"), hands_out("plain", "scram", "scram-sha-256")

-- In the order in which they are told: those that give away least come first.
-- `plain`: where a password may come; `tls`: on an encrypted connection; `cert`:
-- where the client has shown a certificate.
local built_in = {
   { name = "EXTERNAL", step = external, tls = true, cert = true, serves = has("certificate") },
   { name = "SCRAM-SHA-256-PLUS", step = scram("SHA-256", true), tls = true, serves = sha256 },
   { name = "SCRAM-SHA-1-PLUS", step = scram("SHA-1", true), tls = true, serves = sha1 },
   { name = "SCRAM-SHA-256", step = scram("SHA-256", false), serves = sha256 },
   { name = "SCRAM-SHA-1", step = scram("SHA-1", false), serves = sha1 },
   { name = "OAUTHBEARER", step = with_token("OAUTHBEARER", bearer_error), plain = true, serves = has("token") },
   { name = "XOAUTH2", step = with_token("XOAUTH2", xoauth2_error), plain = true, serves = has("token") },
   { name = "CRAM-MD5", step = cram, serves = hands_out("plain") },
   { name = "PLAIN", step = plain, plain = true, serves = has("verify", "lookup") },
   { name = "LOGIN", step = login, plain = true, serves = has("verify", "lookup") },
}

-- A site's own: a step, or { step =, plain =, tls =, cert = }.  Under the name
-- of one that is built in it needs what that needs, unless it says otherwise: a
-- PLAIN of the site's brings passwords too.
local function own(name, value)
   local row, one = type(value) == "table" and value or { step = value }, { name = name, own = true }
   for _, known in ipairs(built_in) do
      if known.name == name then
         one.plain, one.tls, one.cert = known.plain, known.tls, known.cert
      end
   end
   for _, key in ipairs { "step", "plain", "tls", "cert" } do
      if row[key] ~= nil then
         one[key] = row[key]
      end
   end
   return one
end

-- Every mechanism that auth serves; a site's own take the place of those built
-- in, and false takes one away.
local function served(auth)
   local rows, owns = {}, auth and auth.mechanisms or {}
   for _, row in ipairs(auth and built_in or {}) do
      if owns[row.name] == nil and row.serves(auth) then
         rows[#rows + 1] = row
      end
   end
   local names = {}
   for name, value in pairs(owns) do
      if value then
         names[#names + 1] = name
      end
   end
   table.sort(names)
   for _, name in ipairs(names) do
      rows[#rows + 1] = own(name, owns[name])
   end
   return rows
end

--- What an auth table can serve, those to be preferred first.
-- @tparam ?table auth
-- @treturn table an array of `{ name =, plain =, tls =, cert = }`: `plain`, where
-- a password may come in the clear; `tls`, on an encrypted connection only;
-- `cert`, only for a client that has shown a certificate
function sasl.offered(auth)
   local list = {}
   for i, row in ipairs(served(auth)) do
      list[i] = { name = row.name, plain = row.plain == true, tls = row.tls == true, cert = row.cert == true }
   end
   return list
end

--- Finds a mechanism that an auth table serves.
-- @tparam ?table auth
-- @string name in upper case
-- @treturn table `step`, and `own` for a site's own; or nil
function sasl.find(auth, name)
   for _, row in ipairs(served(auth)) do
      if row.name == name then
         return row
      end
   end
end

return sasl
