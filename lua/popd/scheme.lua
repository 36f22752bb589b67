--- Stored passwords: what is kept in place of a password, and what verifies it.
--
-- A stored password is `{SCHEME}value`, crypt(3)'s own `$…$…`, or else the plain
-- password; a plain one that begins with `{` or `$` carries `{PLAIN}`.  Names of
-- schemes may be in any case.
--
-- | scheme | value |
-- | --- | --- |
-- | `PLAIN`, `CLEARTEXT` | the password; with `.b64` or `.hex` behind the scheme's name it is so encoded |
-- | `SCRAM-SHA-256`, `SCRAM-SHA-1` | `iterations,salt,stored key,server key` as Dovecot has it, or RFC 5803's form |
-- | `PBKDF2-SHA256` | `iterations$salt$sum`, in the base64 with `.` and without padding of passlib |
-- | `SSHA`, `SSHA256`, `SSHA512` | base64 of the digest of password and salt, then the salt |
-- | `SHA`, `SHA256`, `SHA512` | the digest in base64 or hex |
-- | `MD5-CRYPT`, `SHA256-CRYPT`, `SHA512-CRYPT`, `BLF-CRYPT` | that method of crypt(3) |
-- | `CRYPT`, or `$` without a scheme | any method that crypt(3) knows; the old DES one with `{CRYPT}` only |
--
-- Those that are slow by intent (SCRAM, PBKDF2, crypt) work in threads: these
-- functions wait meanwhile, and the server goes on.  Every comparison takes the
-- same time whatever it finds.
-- @module popd.scheme
local core = require("popd.core")

local scheme = {}

--- How often SCRAM hashes a new password.  RFC 7677 asks for 4096 or more; a
-- client has to do the same work at each login, so more than what a telephone
-- does in a moment would cost its users.
scheme.SCRAM_ITERATIONS = 15000

local PBKDF2_ITERATIONS = 600000 -- OWASP's advice for SHA-256 in 2023
local ITERATIONS_MAX = 10000000 -- the core's bound: no entry holds a thread for hours
local SALT_MAX = 512
local PASSWORD_MAX = 1024 -- octets; none is longer
local CRYPT_PASSWORD_MAX = 511 -- crypt(3)'s own bound
local SIZES = { ["SHA-1"] = 20, ["SHA-256"] = 32, ["SHA-512"] = 64 }

-- Values ----------------------------------------------------------------------

-- A count as the schemes write it, without sign or leading zeros.
local function iterations_of(text)
   local n = #text <= 8 and text:find("^[1-9]%d*$") and math.tointeger(tonumber(text))
   if not n or n > ITERATIONS_MAX then
      return nil, ("the iterations are not from 1 to %d"):format(ITERATIONS_MAX)
   end
   return n
end

local function unhex(text)
   if #text % 2 ~= 0 or text:find("%X") then
      return nil
   end
   return (text:gsub("%x%x", function(digits)
      return string.char(tonumber(digits, 16))
   end))
end

-- The base64 of passlib's LDAP schemes.
local function unbase64_dotted(text)
   if text:find("+", 1, true) or #text % 4 == 1 then
      return nil
   end
   return core.unbase64(text:gsub("%.", "+") .. ("="):rep(-#text % 4))
end

local function base64_dotted(octets)
   return (core.base64(octets):gsub("%+", "."):gsub("=", ""))
end

-- SASLprep (RFC 4013), as SCRAM asks for; nil: it allows no such password.
local function prepared(password)
   return (core.prep(password))
end

-- Schemes ---------------------------------------------------------------------

-- Each has a kind; parse(value, encoding) returns what verify takes, or nil and
-- what is wrong, and never waits; verify(entry, password) returns a boolean, or
-- nil and a reason.  Those that new passwords can have: make(password, work)
-- returns the value; work = { option's name, default, least, most }.
local schemes = {}

local function plain()
   return {
      kind = "plain",
      encodings = true,
      parse = function(value, encoding)
         local password = value
         if encoding then
            password = encoding(value)
         end
         return password, "the encoding is broken"
      end,
      verify = function(stored, password)
         return core.equal(stored, password)
      end,
      make = function(password)
         return password
      end,
   }
end

schemes.PLAIN = plain()
schemes.CLEARTEXT = plain()

-- RFC 5802, section 3.
local function derive(kind, password, salt, iterations)
   local salted, why = core.pbkdf2(kind, password, salt, iterations, SIZES[kind])
   if not salted then
      return nil, why
   end
   return {
      iterations = iterations,
      salt = salt,
      stored_key = core.digest(kind, core.hmac(kind, salted, "Client Key")),
      server_key = core.hmac(kind, salted, "Server Key"),
   }
end

local function scram_fields(value)
   local count, salt, stored, server = value:match("^([^,]*),([^,]*),([^,]*),([^,]*)$")
   if not count then
      count, salt, stored, server = value:match("^([^:]*):([^$]*)%$([^:]*):([^:]*)$")
   end
   return count, salt, stored, server
end

local function parse_scram(kind, value)
   local count, salt, stored, server = scram_fields(value)
   if not count then
      return nil, "not the four fields: iterations, salt, stored key, server key"
   end
   local iterations, why = iterations_of(count)
   if not iterations then
      return nil, why
   end
   salt, stored, server = core.unbase64(salt), core.unbase64(stored), core.unbase64(server)
   if not (salt and stored and server) then
      return nil, "a field is no base64"
   elseif #salt < 1 or #salt > SALT_MAX or #stored ~= SIZES[kind] or #server ~= SIZES[kind] then
      return nil, "a field has the wrong length"
   end
   return { iterations = iterations, salt = salt, stored_key = stored, server_key = server }
end

local function scram(kind)
   return {
      kind = "scram",
      hash = kind,
      parse = function(value)
         return parse_scram(kind, value)
      end,
      verify = function(entry, password)
         local ready = prepared(password)
         if not ready then
            return false
         end
         local made, why = derive(kind, ready, entry.salt, entry.iterations)
         if not made then
            return nil, why
         end
         local stored = core.equal(entry.stored_key, made.stored_key)
         local server = core.equal(entry.server_key, made.server_key)
         return stored and server
      end,
      work = { "iterations", scheme.SCRAM_ITERATIONS, 4096, ITERATIONS_MAX },
      make = function(password, iterations)
         local ready = prepared(password)
         if not ready then
            return nil, "the password has characters that SASLprep (RFC 4013) does not allow"
         end
         local made, why = derive(kind, ready, core.random(16), iterations)
         return made and ("%d,%s,%s,%s"):format(iterations, core.base64(made.salt), core.base64(made.stored_key),
            core.base64(made.server_key)), why
      end,
   }
end

schemes["SCRAM-SHA-256"] = scram("SHA-256")
schemes["SCRAM-SHA-1"] = scram("SHA-1")

local function parse_pbkdf2(value)
   local count, salt, sum = value:match("^([^$]*)%$([^$]*)%$([^$]*)$")
   if not count then
      return nil, "not the three fields: iterations, salt, sum"
   end
   local iterations, why = iterations_of(count)
   if not iterations then
      return nil, why
   end
   salt, sum = unbase64_dotted(salt), unbase64_dotted(sum)
   if not (salt and sum) then
      return nil, "a field is no base64"
   elseif #salt > SALT_MAX or #sum ~= SIZES["SHA-256"] then
      return nil, "a field has the wrong length"
   end
   return { iterations = iterations, salt = salt, sum = sum }
end

schemes["PBKDF2-SHA256"] = {
   kind = "hash",
   parse = parse_pbkdf2,
   verify = function(entry, password)
      local sum, why = core.pbkdf2("SHA-256", password, entry.salt, entry.iterations, #entry.sum)
      if not sum then
         return nil, why
      end
      return core.equal(entry.sum, sum)
   end,
   work = { "iterations", PBKDF2_ITERATIONS, 1, ITERATIONS_MAX },
   make = function(password, iterations)
      local salt = core.random(16)
      local sum, why = core.pbkdf2("SHA-256", password, salt, iterations, SIZES["SHA-256"])
      return sum and ("%d$%s$%s"):format(iterations, base64_dotted(salt), base64_dotted(sum)), why
   end,
}

-- Digests of a password, with a salt behind it or without.
local function sum_of(kind, salted)
   local size = SIZES[kind]
   return {
      kind = "hash",
      encodings = true,
      parse = function(value, encoding)
         encoding = encoding or (not salted and #value == 2 * size and unhex) or core.unbase64
         local octets = encoding(value)
         if not octets then
            return nil, "the encoding is broken"
         elseif salted and #octets <= size or not salted and #octets ~= size then
            return nil, "the wrong length"
         end
         return { sum = octets:sub(1, size), salt = octets:sub(size + 1) }
      end,
      verify = function(entry, password)
         return core.equal(entry.sum, core.digest(kind, password .. entry.salt))
      end,
      make = salted and function(password)
         local salt = core.random(16)
         return core.base64(core.digest(kind, password .. salt) .. salt)
      end or nil,
   }
end

schemes.SHA, schemes.SSHA = sum_of("SHA-1", false), sum_of("SHA-1", true)
schemes.SHA256, schemes.SSHA256 = sum_of("SHA-256", false), sum_of("SHA-256", true)
schemes.SHA512, schemes.SSHA512 = sum_of("SHA-512", false), sum_of("SHA-512", true)

-- crypt(3) --------------------------------------------------------------------

-- How many characters each method's hash has: one that was cut short is found
-- when it is read, not when its user wants to log in.
local HASH_LENGTHS = {
   ["1"] = 22, ["5"] = 43, ["6"] = 86, ["7"] = 43, sha1 = 28, y = 43, gy = 43,
   ["2a"] = 53, ["2b"] = 53, ["2x"] = 53, ["2y"] = 53,
}

local MEMORY_MAX = 2 ^ 30 -- octets that yescrypt and scrypt may fill, one round after the other
local LETTERS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

-- The number that letters stand for, the lowest first.
local function number_of(letters)
   local n = 0
   for i = #letters, 1, -1 do
      n = 64 * n + LETTERS:find(letters:sub(i, i), 1, true) - 1
   end
   return n
end

-- Each says what part of the work that is taken a value asks for, if its method
-- is meant.  A pool of few threads must not be one entry's for minutes.
local function rounds(pattern, most)
   return function(value)
      local n = value:match(pattern)
      return n and tonumber(n) / most or 0
   end
end

-- yescrypt's N and r, of a letter each, which is all that crypt_gensalt(3)
-- writes, and perhaps its p.
local function yescrypt_work(value)
   local parameters = value:match("^%$g?y%$(.*)$")
   if not parameters then
      return 0
   end
   local n, r, more = parameters:match("^[./%w]([./%w])([./%w])([^$]*)%$")
   local p = more == "" and 1 or more and more:match("^%.([./%w])$")
   if not p then
      return math.huge
   end
   p = p == 1 and p or number_of(p) + 2
   return 128.0 * (number_of(r) + 1) * p * 2.0 ^ (number_of(n) + 1) / MEMORY_MAX
end

-- scrypt's N, r and p.
local function scrypt_work(value)
   local parameters = value:match("^%$7%$(.*)$")
   if not parameters then
      return 0
   end
   local letters = "([./%w][./%w][./%w][./%w][./%w])"
   local n, r, p = parameters:match("^([./%w])" .. letters .. letters)
   return n and 128.0 * number_of(r) * number_of(p) * 2.0 ^ number_of(n) / MEMORY_MAX or math.huge
end

local WORKS = {
   rounds("^%$[56]%$rounds=(%d+)", ITERATIONS_MAX),
   rounds("^%$sha1%$(%d+)", ITERATIONS_MAX),
   rounds("^%$md5[,$]rounds=(%d+)", ITERATIONS_MAX // 4),
   rounds("^%$2%w%$(%d+)", 17),
   yescrypt_work,
   scrypt_work,
}

local function too_costly(value)
   for _, work in ipairs(WORKS) do
      if work(value) > 1 then
         return true
      end
   end
   return false
end

local function is_whole(value)
   local method = value:match("^%$(%w+)%$")
   if method then
      local hash = value:match("%$([./%w]*)$")
      local expected = HASH_LENGTHS[method]
      return hash ~= nil and (not expected or #hash == expected)
   elseif value:find("^%$") then
      return true -- methods that are rare enough
   elseif value:find("^_") then
      return #value == 20
   end
   return #value == 13 and not value:find("[^./%w]")
end

local function parse_crypt(value)
   if not core.crypt_known(value) then
      return nil, "no method that this system's crypt(3) knows"
   elseif not is_whole(value) then
      return nil, "the hash has the wrong length"
   elseif too_costly(value) then
      return nil, "more work than is taken"
   end
   return value
end

local function verify_crypt(stored, password)
   if #password > CRYPT_PASSWORD_MAX then
      return false -- no hash of crypt(3) is such a password's
   end
   local hash, why = core.crypt(password, stored)
   if not hash then
      return nil, why
   end
   return core.equal(stored, hash)
end

-- `prefix`: what the method's values begin with.
local function crypt(prefix, work)
   return {
      kind = "hash",
      parse = function(value)
         if prefix and value:sub(1, #prefix) ~= prefix then
            return nil, "the value is another method's"
         end
         return parse_crypt(value)
      end,
      verify = verify_crypt,
      work = work,
      make = work and function(password, cost)
         local setting, why = core.crypt_salt(work.prefix, cost)
         if not setting then
            return nil, why
         end
         return core.crypt(password, setting)
      end,
   }
end

schemes.CRYPT = crypt(nil, { "cost", 5, 1, 11, prefix = "$y$" })
schemes["BLF-CRYPT"] = crypt("$2", { "cost", 10, 4, 17, prefix = "$2b$" })
schemes["SHA256-CRYPT"] = crypt("$5$", { "cost", 100000, 1000, ITERATIONS_MAX, prefix = "$5$" })
schemes["SHA512-CRYPT"] = crypt("$6$", { "cost", 100000, 1000, ITERATIONS_MAX, prefix = "$6$" })
schemes["MD5-CRYPT"] = crypt("$1$")

-- Reading stored passwords ------------------------------------------------------

local ENCODINGS = { B64 = core.unbase64, BASE64 = core.unbase64, HEX = unhex }

-- A scheme's name as the log may have it: what is in braces may be the beginning
-- of a plain password.
local function shown(name)
   return name:find("^%u[%u%d._-]*$") and #name <= 24 and "{" .. name .. "}" or "a name in braces"
end

local DOLLAR, BRACE = ("${"):byte(1, 2)

-- Name, encoding or nil, and value; or nil and what is wrong.
local function take_apart(stored)
   local first = stored:byte()
   if first == DOLLAR then
      return "CRYPT", nil, stored
   elseif first ~= BRACE then
      return "PLAIN", nil, stored
   end
   local label, value = stored:match("^{([^{}]*)}(.*)$")
   if not label then
      return nil, "a '{' without a scheme's name; a plain password that begins so carries {PLAIN}"
   end
   local name, suffix = label:upper():match("^([^.]*)%.?(.*)$")
   local known = schemes[name]
   if not known then
      return nil, ("%s is no scheme that is known here; a plain password that begins so carries {PLAIN}")
         :format(shown(label))
   elseif suffix ~= "" and not (known.encodings and ENCODINGS[suffix]) then
      return nil, ("{%s} has no such encoding"):format(name)
   end
   return name, ENCODINGS[suffix], value
end

local function parse(stored)
   local name, encoding, value = take_apart(stored)
   if not name then
      return nil, encoding
   end
   local entry, why = schemes[name].parse(value, encoding)
   if not entry then
      return nil, ("an entry of {%s} cannot be used: %s"):format(name, why)
   end
   return name, entry
end

-- Whether a password can be this scheme's at all.  To crypt(3) a NUL is the end,
-- and HMAC, which SCRAM and PBKDF2 are made of, takes no notice of those at a
-- password's end: two passwords would be one.
local function is_fit(name, password)
   return #password <= PASSWORD_MAX and (schemes[name].kind == "plain" or not password:find("\0", 1, true))
end

local function check_text(value, what, who)
   if type(value) ~= "string" then
      error(("scheme.%s: the %s as a string expected"):format(who, what), 3)
   end
end

--- Whether a password is the one that is stored.  May wait.
-- @string stored
-- @string password as it was given, of any octets
-- @treturn boolean or nil and the reason: the stored one cannot be used; the
-- reason says nothing of its value
function scheme.verify(stored, password)
   check_text(stored, "stored password", "verify")
   check_text(password, "password", "verify")
   local name, entry = parse(stored)
   if not name then
      return nil, entry
   elseif not is_fit(name, password) then
      return false
   end
   local same, why = schemes[name].verify(entry, password)
   if same == nil then
      return nil, ("an entry of {%s} cannot be used: %s"):format(name, why)
   end
   return same
end

--- What a stored password is good for, and what it is, in one look.  Never waits.
-- @string stored
-- @treturn string as from `kind`; or nil and the reason
-- @treturn string the scheme's name in upper case
-- @treturn ?string the plain password, where that is told
function scheme.read(stored)
   check_text(stored, "stored password", "read")
   local name, entry = parse(stored)
   if not name then
      return nil, entry
   end
   local kind = schemes[name].kind
   return kind, name, kind == "plain" and entry or nil
end

--- What a stored password is good for.  Never waits.
-- @string stored
-- @treturn string `"plain"` (serves every mechanism), `"scram"` (that SCRAM, and
-- passwords that are sent) or `"hash"` (passwords that are sent); or nil and the reason
-- @treturn string the scheme's name in upper case
function scheme.kind(stored)
   check_text(stored, "stored password", "kind")
   local kind, name = scheme.read(stored)
   return kind, name
end

--- The plain password, for what needs it (APOP, CRAM-MD5).
-- @string stored
-- @treturn string or nil and the reason: it is a hash
function scheme.plain(stored)
   check_text(stored, "stored password", "plain")
   local kind, name, password = scheme.read(stored)
   if not kind then
      return nil, name
   elseif not password then
      return nil, ("{%s} does not tell the plain password"):format(name)
   end
   return password
end

--- What SCRAM needs: of an entry of that SCRAM, or made of a plain one, for which
-- it waits.
-- @string stored
-- @string hash `"SHA-1"` or `"SHA-256"`
-- @string[opt] salt octets, for a plain one
-- @tparam[opt] integer iterations for a plain one; default `scheme.SCRAM_ITERATIONS`
-- @treturn table `iterations`, and as octets `salt`, `stored_key`, `server_key`; or nil and the reason
function scheme.scram(stored, hash, salt, iterations)
   check_text(stored, "stored password", "scram")
   if not schemes["SCRAM-" .. tostring(hash)] then
      error('scheme.scram: "SHA-1" or "SHA-256" expected', 2)
   end
   local name, entry = parse(stored)
   if not name then
      return nil, entry
   elseif schemes[name].hash == hash then
      return entry
   elseif schemes[name].kind ~= "plain" then
      return nil, ("{%s} does not serve SCRAM-%s"):format(name, hash)
   end
   check_text(salt, "salt", "scram")
   local ready = prepared(entry)
   if not ready then
      return nil, ("an entry of {%s} cannot be used: SASLprep (RFC 4013) does not allow it"):format(name)
   end
   return derive(hash, ready, salt, iterations or scheme.SCRAM_ITERATIONS)
end

-- Making stored passwords -------------------------------------------------------

local choices = {}
for name, one in pairs(schemes) do
   if one.make then
      choices[#choices + 1] = name
   end
end
table.sort(choices)

--- The names that `make` knows, sorted.
scheme.names = choices

-- The amount of work asked for, or the scheme's own.
local function work_of(name, options)
   local work = schemes[name].work
   for key in pairs(options) do
      if not work or key ~= work[1] then
         error(("scheme.make: {%s} has no option '%s'; there is: %s"):format(name, tostring(key),
            work and work[1] or "none"), 3)
      end
   end
   if not work then
      return nil
   end
   local amount = options[work[1]] or work[2]
   if math.type(amount) ~= "integer" or amount < work[3] or amount > work[4] then
      error(("scheme.make: %s: an integer from %d to %d expected"):format(work[1], work[3], work[4]), 3)
   end
   return amount
end

--- Makes what is to be stored of a password, with a fresh salt.  May wait.
-- @string name a scheme: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-1`, `PBKDF2-SHA256`, `SSHA`, `SSHA256`, `SSHA512`,
-- `CRYPT` (yescrypt), `BLF-CRYPT`, `SHA256-CRYPT`, `SHA512-CRYPT`; an unknown one raises
-- @string password
-- @tparam[opt] table options `iterations` (SCRAM: 15000, at least RFC 7677's 4096; PBKDF2: 600000) or `cost`
-- (`CRYPT`: 5 of 1 to 11, `BLF-CRYPT`: 10 of 4 to 17, the other two: 100000 rounds)
-- @treturn string or nil and the reason: the scheme cannot take this password
-- @usage local stored = assert(scheme.make("SCRAM-SHA-256", password))
function scheme.make(name, password, options)
   check_text(name, "scheme", "make")
   check_text(password, "password", "make")
   if options ~= nil and type(options) ~= "table" then
      error("scheme.make: options are a table", 2)
   end
   name = name:upper()
   if not (schemes[name] and schemes[name].make) then
      error(("scheme.make: unknown scheme '%s'; there are: %s"):format(name, table.concat(choices, ", ")), 2)
   end
   local work = work_of(name, options or {})
   if not is_fit(name, password) then
      return nil, ("{%s}: the password is longer than %d octets or has a NUL"):format(name, PASSWORD_MAX)
   end
   local value, why = schemes[name].make(password, work)
   if not value then
      return nil, ("{%s}: %s"):format(name, why)
   end
   return "{" .. name .. "}" .. value
end

return scheme
