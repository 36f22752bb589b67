-- Users who are known to an HTTP service, mail in Maildirs.
--
--     popd-lua examples/http_auth.lua ROOT URL [PORT]      (1110)
--
-- For each login the service gets a POST with the JSON body
--
--     {"user":"joe@example.org","password":"secret"}
--
-- and answers 200: the password is right; 401, 403 or 404: it is not.  Whatever
-- else comes, or nothing in time, is no answer: the client is told to try again
-- later, and the log says why.  While the service thinks, other clients are
-- served.
--
-- An https:// URL is verified against the authorities that the system trusts.
local popd = require("popd")
local maildir = require("popd.maildir")

local root, url, port = arg[1], arg[2], math.tointeger(tonumber(arg[3] or 1110))
if not root or not url or not port then
   io.stderr:write("usage: popd-lua examples/http_auth.lua ROOT URL [PORT]\n")
   os.exit(2)
end

-- Names and passwords are any octets; JSON is UTF-8.
local function json_text(text)
   if not utf8.len(text) then
      return nil
   end
   return '"' .. text:gsub('[%c"\\\127]', function(octet)
      return ("\\u%04x"):format(octet:byte())
   end) .. '"'
end

local REFUSED = { [401] = true, [403] = true, [404] = true }

local auth = {}

function auth.verify(name, password)
   local user, secret = json_text(name), json_text(password)
   if not user or not secret then
      return nil -- no such user: the service has names in UTF-8
   end
   local answer, why = popd.http(url, {
      headers = { ["Content-Type"] = "application/json" },
      body = ('{"user":%s,"password":%s}'):format(user, secret),
      timeout = 10,
   })
   if not answer then
      return nil, why
   elseif answer.status == 200 then
      return name
   elseif REFUSED[answer.status] then
      return nil
   end
   return nil, ("the service answered %d %s"):format(answer.status, answer.reason)
end

popd.new("http_auth", {
   port = port,
   auth = auth,
   storage = maildir.new { root = root .. "/%s" },
}):up()
popd.run()
