--- Says whether a user may enter, in one step (USER and PASS, APOP) or in
-- several (AUTH).
--
-- Names and passwords that are UTF-8 and not ASCII alone are prepared first
-- (SASLprep, RFC 4013; RFC 6856 asks for it with USER, PASS and APOP too): a
-- site's functions get names prepared.  A password is tried prepared, then, if
-- that differs, as it came, so that entries made either way work.  A name that
-- comes by USER or APOP and cannot be prepared is taken as it is.
-- @module popd.login
local ask_module = require("popd.ask")
local forms = require("popd.forms")
local core = require("popd.core")
local nobody = require("popd.nobody")
local sasl = require("popd.sasl")
local scheme = require("popd.scheme")

local ask, fault, is_fault, wrong = ask_module.ask, ask_module.fault, ask_module.is_fault, ask_module.wrong

local login = {}

local REFUSED = "wrong user name or password"
local NO_MECHANISM = "there is no such mechanism here; AUTH lists those there are"
local NAME_MAX = 1024
local NO_AUTH = {} -- where the option is not set: nobody may enter

-- Preparing -------------------------------------------------------------------

local function is_ascii(text)
   return not text:find("[\128-\255]")
end

-- A name that a command brought.
local function prepared_name(name)
   local prepared = not is_ascii(name) and core.prep(name)
   return prepared and prepared ~= "" and prepared or name
end

-- The octets that a secret may have been when it was stored: prepared, then as it is,
-- if that is something else.
local function readings(secret)
   local prepared = not is_ascii(secret) and core.prep(secret)
   if prepared and prepared ~= "" and prepared ~= secret then
      return prepared, secret
   end
   return secret
end

-- true, false, or nil and what is wrong with the stored one, which is of that kind.
local function is_password(stored, kind, password)
   if kind == "scram" then
      return scheme.verify(stored, password) -- which prepares by itself
   end
   local reading, other = readings(password)
   local same, why = scheme.verify(stored, reading)
   if same == false and other then
      return scheme.verify(stored, other)
   end
   return same, why
end

-- Exchanges -------------------------------------------------------------------

-- A login under way: what its mechanism asks of the site, and how it ended.
local Exchange = {}
Exchange.__index = Exchange

local function new_exchange(conn, options, kind)
   return setmetatable({
      conn = conn, kind = kind, name = "",
      key = options.auth or NO_AUTH, auth = forms.auth(options.auth) or NO_AUTH, on_login = (options.on or {}).login,
   }, Exchange)
end

--- Refuses, with a text of its own.
-- @string text
-- @string[opt] code
-- @return nil, for the mechanism to return
function Exchange:refuse(text, code)
   self.outcome = { why = "password", text = text, code = code, name = self.name }
   return nil
end

--- Whoever logs in is known by name now: asks the hook `login`.
-- @string name
-- @treturn boolean false: the hook has refused
function Exchange:named(name)
   self.name = name
   local go, text, code = ask_module.hook(self.conn, "login", self.on_login, self.conn, name, self.kind)
   if not go then
      self.outcome = { why = "hook", text = text, code = code, name = name }
   end
   return go
end

-- What lookup has of a user: stored, mbox and the stored one's kind; nil for nobody; nil and a Fault.
local function find(self, name)
   local auth, conn = self.auth, self.conn
   if not auth.lookup then
      return nil
   end
   if auth.exists then
      local exists = ask(conn, "auth.exists", auth.exists, name, conn)
      if not exists then
         return nil
      elseif is_fault(exists) then
         return nil, exists
      end
   end
   local stored, mbox = ask(conn, "auth.lookup", auth.lookup, name, conn)
   if not stored then
      return nil
   elseif type(stored) ~= "string" then
      return nil, is_fault(stored) and stored or wrong(conn, "auth.lookup", "the password as a string", stored)
   end
   local kind, name_or_why, plain = scheme.read(stored)
   if not kind then
      return nil, fault(conn, "auth.lookup", name_or_why)
   end
   if plain == "" then
      core.log("warning", "lookup returned an empty password: such a user cannot log in", {
         conn = conn.id, peer = conn.remotehost, user = name })
      return nil
   end
   nobody.learn(self.key, stored, kind, name_or_why)
   return stored, mbox, kind
end

local function verify(self, name, password)
   local conn, check = self.conn, self.auth.verify
   local reading, other = readings(password)
   local mbox = ask(conn, "auth.verify", check, name, reading, conn)
   if not mbox and other then
      mbox = ask(conn, "auth.verify", check, name, other, conn)
   end
   if is_fault(mbox) then
      return nil, mbox
   end
   return mbox or nil
end

-- A user without an mbox cannot enter, whatever the secret.
local function entered(self, mbox)
   if mbox == nil then
      return nil, fault(self.conn, "auth.lookup", "lookup returned a password but no mbox")
   end
   return mbox
end

--- Checks a password that came in full.
-- @string name
-- @string password
-- @return the mbox; nil: refused; nil and a Fault
function Exchange:password(name, password)
   if self.auth.verify then
      return verify(self, name, password)
   end
   local stored, mbox, kind = find(self, name)
   if not stored and mbox then
      return nil, mbox
   elseif not stored then
      local dummy = nobody.stored(self.key, self.auth)
      is_password(dummy, scheme.kind(dummy), password)
      return nil
   end
   local same, why = is_password(stored, kind, password)
   if same == nil then
      return nil, fault(self.conn, "auth.lookup", why)
   elseif same then
      return entered(self, mbox)
   end
end

-- For the log: the client must not learn that there is such a user.
local function warn(self, what)
   core.log("warning", "an entry cannot serve this way to log in; auth.secrets should say what lookup hands out", {
      conn = self.conn.id, peer = self.conn.remotehost, user = self.name, mech = self.kind, reason = what,
   })
end

-- What comes by the commands.
Exchange.user = Exchange.password

--- Checks APOP's digest.
-- @string name
-- @string secret the digest
-- @string stamp
-- @return as `digest`
function Exchange:apop(name, secret, stamp)
   return self:digest(name, function(password)
      return core.apop(stamp, password, secret)
   end)
end

--- Checks what was made of the plain password.
-- @string name
-- @func matches whether it fits a password
-- @return the mbox; nil: refused; nil and a Fault
function Exchange:digest(name, matches)
   local stored, mbox = find(self, name)
   if not stored and mbox then
      return nil, mbox
   end
   local plain, why = scheme.plain(stored or nobody.PASSWORD)
   if not plain then
      warn(self, why)
   end
   local reading, other = readings(plain or nobody.PASSWORD)
   local fits = matches(reading)
   fits = other and matches(other) or fits
   if fits and plain and stored then
      return entered(self, mbox)
   end
end

-- Whether SCRAM's keys can be made of a plain password; nil and why not.
local function can_derive(stored)
   local plain = scheme.plain(stored)
   local ready, why = core.prep(plain)
   if ready then
      return true
   end
   return nil, "the password " .. why
end

-- Whether an entry serves SCRAM; nil and why not.
local function serves_scram(stored, hash)
   local kind, name = scheme.kind(stored)
   if kind == "plain" then
      return can_derive(stored)
   elseif name == "SCRAM-" .. hash then
      return true
   end
   return nil, "it is of the scheme " .. name
end

--- SCRAM's keys of a user, known or not.
-- @string name
-- @string hash
-- @treturn table as from `scheme.scram`, or nil and a Fault
-- @return the mbox of a user who is known
function Exchange:scram(name, hash)
   local stored, mbox = find(self, name)
   if not stored and mbox then
      return nil, mbox
   end
   local serves, why = false, nil
   local keys
   if stored then
      serves, why = serves_scram(stored, hash)
   end
   if why then
      warn(self, why)
   end
   if serves then
      keys, why = scheme.scram(stored, hash, nobody.salt(self.auth, hash, name))
   else
      keys, why = nobody.scram(self.key, self.auth, hash, name)
   end
   if not keys then
      return nil, fault(self.conn, "auth.lookup", why)
   elseif serves then
      nobody.learn_scram(self.key, hash, keys, scheme.kind(stored) == "plain")
   end
   return keys, mbox
end

-- What token and certificate return: the mbox, and perhaps whose it is.
local function answer(self, callback, asked, mbox, name)
   if is_fault(mbox) then
      return nil, mbox
   elseif not mbox then
      return nil
   end
   name = name == nil and asked or name
   if type(name) ~= "string" or name == "" or #name > NAME_MAX then
      return nil, fault(self.conn, callback, "it returned an mbox, but no name, and the client has told none")
   end
   return mbox, name
end

--- Checks a bearer token.
-- @string name as the client told it, or ""
-- @string token
-- @return the mbox; nil: refused; nil and a Fault
-- @treturn string whose it is
function Exchange:token(name, token)
   return answer(self, "auth.token", name, ask(self.conn, "auth.token", self.auth.token, name, token, self.conn))
end

--- Checks a client's certificate.
-- @string name whom the client wants to be, or ""
-- @tparam table client what is known of the certificate
-- @return the mbox; nil: refused; nil and a Fault
-- @treturn string whose it is
function Exchange:certificate(name, client)
   return answer(self, "auth.certificate", name,
      ask(self.conn, "auth.certificate", self.auth.certificate, name, client, self.conn))
end

-- Ends ------------------------------------------------------------------------

local exchanges = setmetatable({}, { __mode = "k" }) -- by connection

local function refused(self, bad)
   if bad then
      return { why = "fault", text = bad.text, code = bad.code, name = self.name }
   end
   return self.outcome or { why = "password", text = REFUSED, code = "AUTH", name = self.name }
end

-- A site's own mechanism: any value may come.
local function run_own(self, bytes)
   local callback = "auth.mechanisms." .. self.kind
   local result, name, mbox = ask(self.conn, callback, self.mechanism.step, bytes, self.state, self.conn)
   if is_fault(result) then
      return nil, result
   elseif type(result) == "string" or not result then
      return result
   elseif result ~= true then
      return nil, wrong(self.conn, callback, "a challenge, true or nil", result)
   elseif type(name) ~= "string" or name == "" or #name > NAME_MAX or mbox == nil then
      return nil, fault(self.conn, callback, "it returned true without a name and an mbox")
   end
   if not self:named(name) then
      return nil
   end
   return true, name, mbox
end

local function run(self, bytes)
   if self.mechanism.own then
      return run_own(self, bytes)
   end
   return self.mechanism.step(bytes, self.state, self.conn, self)
end

local function sasl_step(self, bytes)
   local result, name, mbox = run(self, bytes)
   if type(result) == "string" then
      local outcome = self.spurned and refused(self) or {}
      outcome.challenge = result
      return outcome
   end
   exchanges[self.conn] = nil
   if not result then
      return refused(self, name)
   end
   local _, bad = entered(self, mbox)
   return bad and refused(self, bad) or { name = name, mbox = mbox }
end

local function begin(conn, options, kind)
   local exchange = new_exchange(conn, options, kind)
   exchange.mechanism, exchange.state = sasl.find(exchange.auth, kind), {}
   exchanges[conn] = exchange
   return exchange
end

-- USER and PASS, APOP.
local function command(self, name, secret, stamp)
   local mbox, bad
   if self:named(name) then
      mbox, bad = self[self.kind](self, name, secret, stamp)
      if mbox ~= nil then
         return { name = name, mbox = mbox }
      end
   end
   return refused(self, bad)
end

--- Takes what a client sent.
-- @param conn
-- @tparam table options the server's
-- @string kind `"user"`, `"apop"` or a SASL mechanism's name
-- @string name for the first two
-- @string secret the password, APOP's digest, or what the client sent within
-- AUTH: nil if that is nothing
-- @string stamp APOP's
-- @bool first whether an exchange of AUTH begins
-- @treturn table `challenge` to go on, `name` and `mbox` of who may enter, or
-- `why`, `text`, `code` and `name` of who may not; these with a `challenge` too
-- where the client is refused, but reads of it first
function login.step(conn, options, kind, name, secret, stamp, first)
   if kind ~= "user" and kind ~= "apop" then
      local exchange = first and begin(conn, options, kind) or exchanges[conn]
      if not (exchange and exchange.mechanism) then
         return { why = "password", text = NO_MECHANISM, name = "" }
      end
      return sasl_step(exchange, secret or not first and "" or nil)
   end
   return command(new_exchange(conn, options, kind), prepared_name(name), secret, stamp)
end

return login
