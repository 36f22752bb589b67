--- Says whether a user may enter.
-- @module popd.login
local ask_module = require("popd.ask")
local core = require("popd.core")

local ask, fault, is_fault, wrong = ask_module.ask, ask_module.fault, ask_module.is_fault, ask_module.wrong

local login = {}

-- The plain password that a stored one stands for, or nil and what is wrong.
local function plain(stored)
   local scheme, rest = stored:match("^{([^}]*)}(.*)$")
   if scheme and scheme:upper() == "PLAIN" then
      return rest
   end
   if stored:find("^[{$]") then
      return nil, ("lookup returned a password of the form %s; this version verifies plain ones and {PLAIN} only, "
         .. "others need auth.verify"):format(scheme and "{" .. scheme .. "}" or "$…$")
   end
   return stored
end

local function matches(kind, stored, secret, stamp)
   if kind == "apop" then
      return core.apop(stamp, stored, secret)
   end
   return core.equal(stored, secret)
end

-- A comparison that fails, so that an unknown user costs what a known one does.
local function compare_nothing(kind, secret, stamp)
   matches(kind, "\0no such user\0", secret, stamp)
end

local function check_lookup(conn, kind, secret, stamp, stored, mbox)
   if is_fault(stored) then
      return stored
   end
   if not stored then
      compare_nothing(kind, secret, stamp)
      return nil
   end
   if type(stored) ~= "string" then
      return wrong(conn, "auth.lookup", "the password as a string", stored)
   end
   local password, why = plain(stored)
   if not password then
      return fault(conn, "auth.lookup", why)
   end
   if not matches(kind, password, secret, stamp) then
      return nil
   end
   if mbox == nil then
      return fault(conn, "auth.lookup", "lookup returned a password but no mbox")
   end
   return mbox
end

--- Asks auth's functions.
-- @param conn
-- @tparam ?table auth
-- @string kind `"user"` or `"apop"`
-- @string name
-- @string secret the password, or APOP's digest
-- @string stamp APOP's
-- @return the mbox of who may enter, nil for who may not, or a fault
function login.authenticate(conn, auth, kind, name, secret, stamp)
   if not auth then
      return nil
   end
   if kind == "user" and auth.verify then
      local mbox = ask(conn, "auth.verify", auth.verify, name, secret, conn)
      return mbox or nil
   end
   if not auth.lookup then
      return nil
   end
   if auth.exists then
      local exists = ask(conn, "auth.exists", auth.exists, name, conn)
      if is_fault(exists) then
         return exists
      end
      if not exists then
         compare_nothing(kind, secret, stamp)
         return nil
      end
   end
   return check_lookup(conn, kind, secret, stamp, ask(conn, "auth.lookup", auth.lookup, name, conn))
end

return login
