--- What the core is told of a server's options: everything that it decides without asking.
-- @module popd.told
local core = require("popd.core")
local forms = require("popd.forms")
local sasl = require("popd.sasl")

local told = {}

local function capa_lines(o)
   local lines = {}
   if o.expire ~= false then
      lines[#lines + 1] = "EXPIRE " .. o.expire
   end
   if o.login_delay then
      lines[#lines + 1] = ("LOGIN-DELAY %d"):format(math.ceil(o.login_delay))
   end
   for _, command in pairs(o.commands or {}) do
      if type(command) == "table" and command.capa then
         lines[#lines + 1] = command.capa
      end
   end
   table.sort(lines)
   return lines[1] and table.concat(lines, "\n") .. "\n" or nil
end

local function keywords(o, wanted)
   local list = {}
   for keyword, command in pairs(o.commands or {}) do
      if core.verb(keyword) and (command == false) == wanted then
         list[#list + 1] = keyword
      end
   end
   return list
end

local function has_own(o)
   for keyword, command in pairs(o.commands or {}) do
      if command and not core.verb(keyword) then
         return true
      end
   end
   return false
end

local function offers_apop(o)
   local auth = forms.auth(o.auth)
   return auth ~= nil and auth.lookup ~= nil and (auth.secrets or "plain") == "plain"
      and (o.commands or {}).APOP ~= false
end

-- A password that comes as it is can be checked.  Without auth nobody may enter,
-- and is told so by USER and PASS.
local function serves_passwords(o)
   local auth = forms.auth(o.auth)
   return auth == nil or auth.verify ~= nil or auth.lookup ~= nil
end

-- The commands that are switched off, or that nothing could serve.
local function verbs_off(o)
   local off = keywords(o, true)
   if type(o.storage) == "table" and o.storage.uidl == false then
      off[#off + 1] = "UIDL"
   end
   for _, keyword in ipairs(serves_passwords(o) and {} or { "USER", "PASS" }) do
      if not (o.commands or {})[keyword] then
         off[#off + 1] = keyword
      end
   end
   return off
end

-- What AUTH takes: { name, plain, tls, cert }, one each.
local function mechanisms(o)
   return (o.commands or {}).AUTH ~= false and sasl.offered(forms.auth(o.auth)) or {}
end

--- Tells it all, from the options as they are.
-- @tparam table p a server's own: `options`, `core`, `ending`; `secrets` is set to what auth hands out now
function told.tell(p)
   local o, on = p.options, p.options.on or {}
   local all = {}
   for name, value in pairs(o) do
      all[name] = value
   end
   all.off = verbs_off(o)
   all.own = keywords(o, false)
   all.commands = has_own(o)
   all.capa = capa_lines(o)
   all.apop = offers_apop(o)
   all.mechanisms = mechanisms(o)
   p.secrets = type(o.auth) == "table" and o.auth.secrets or nil
   all.plain = o.plain_login
   for _, name in ipairs { "connect", "capa", "retrieved", "quit", "disconnect" } do
      all["on_" .. name] = on[name] ~= nil
   end
   all.tell_empty = p.ending
   p.core:set(all)
end

return told
