--- A server's options: their defaults, and what they may be.
-- @module popd.options
local core = require("popd.core")
local tls = require("popd.tls")

local options = {}

local function is(kind)
   return function(value)
      return type(value) == kind, "a " .. kind
   end
end

local function one_of(...)
   local values = { ... }
   return function(value)
      for _, choice in ipairs(values) do
         if value == choice then
            return true
         end
      end
      return false, '"' .. table.concat(values, '", "') .. '"'
   end
end

-- Seconds above 0; false: no limit.
local function time(value)
   return value == false or (type(value) == "number" and value > 0 and value <= 1e9), "seconds above 0, or false"
end

-- Seconds, also none.
local function delay(value)
   return value == false or (type(value) == "number" and value >= 0 and value <= 1e9), "seconds (0 or more), or false"
end

-- How many at most; false: no limit.
local function count(value)
   return value == false or (type(value) == "number" and value >= 1 and value <= 1e15 and value % 1 == 0),
      "a whole number of 1 or more, or false"
end

local function port(value)
   return math.type(value) == "integer" and value >= 0 and value <= 65535, "an integer from 0 to 65535"
end

local function line_limit(value)
   return math.type(value) == "integer" and value >= 255 and value <= 1048576, "an integer from 255 to 1048576"
end

local function networks(value)
   if value == false then
      return true
   end
   if type(value) ~= "table" or #value == 0 then
      return false, 'a list of networks, { "10.0.0.0/8" }'
   end
   for _, network in ipairs(value) do
      if type(network) ~= "string" or not core.is_network(network) then
         return false, 'a list of networks, { "10.0.0.0/8" }; ' .. tostring(network) .. " is none"
      end
   end
   return true
end

local auth_functions = { "exists", "lookup", "verify", "token", "certificate" }
local secrets = {
   plain = true, scram = true, ["scram-sha-256"] = true, ["scram-sha-1"] = true, hash = true,
}

-- RFC 4422, section 3.1.
local function is_mechanism_name(name)
   return type(name) == "string" and #name <= 20 and name:find("^[%u%d_-]+$") ~= nil
end

local function is_mechanism(value)
   if type(value) == "table" then
      return type(value.step) == "function"
   end
   return type(value) == "function" or value == false
end

local function check_mechanisms(mechanisms)
   if mechanisms == nil then
      return nil
   elseif type(mechanisms) ~= "table" then
      return "mechanisms is no table"
   end
   for name, value in pairs(mechanisms) do
      if not is_mechanism_name(name) then
         return "mechanisms: names are 1 to 20 of A-Z, 0-9, - and _; " .. tostring(name) .. " is none"
      elseif not is_mechanism(value) then
         return "mechanisms: " .. name .. " is neither a function, { step = } nor false"
      end
   end
end

local function check_oauth(oauth)
   if oauth == nil then
      return nil
   elseif type(oauth) ~= "table" then
      return "oauth is no table"
   end
   for _, key in ipairs { "scope", "discovery" } do
      if oauth[key] ~= nil and not (type(oauth[key]) == "string" and utf8.len(oauth[key])) then
         return "oauth." .. key .. " is no text"
      end
   end
end

local function is_callable(value)
   local meta = getmetatable(value)
   return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

-- What is wrong with auth's values.
local function check_auth_values(value)
   if value.secrets ~= nil and not secrets[value.secrets] then
      return 'secrets is not "plain", "scram", "scram-sha-256", "scram-sha-1" or "hash"'
   end
   for _, key in ipairs { "dummy", "salt_key" } do
      if value[key] ~= nil and type(value[key]) ~= "string" then
         return key .. " is no string"
      end
   end
   return check_mechanisms(value.mechanisms) or check_oauth(value.oauth)
end

local function auth(value)
   local expected = "a function, or a table with lookup, verify, token, certificate or mechanisms"
   if type(value) == "function" then
      return true
   elseif type(value) ~= "table" or (value.lookup or value.verify or value.token or value.certificate
      or value.mechanisms) == nil then
      return false, expected
   end
   for _, name in ipairs(auth_functions) do
      if value[name] ~= nil and not is_callable(value[name]) then
         return false, expected .. "; " .. name .. " is no function"
      end
   end
   local wrong = check_auth_values(value)
   return wrong == nil, expected .. "; " .. tostring(wrong)
end

local function storage(value)
   if type(value) == "function" then
      return true
   end
   return type(value) == "table" and value.get ~= nil and (value.stat or value.scan) ~= nil,
      "a function, or a table with get, and stat or scan"
end

local hooks = {
   connect = true, login = true, logged_in = true, capa = true, retrieved = true, quit = true, disconnect = true,
}

local function on(value)
   if type(value) ~= "table" then
      return false, "a table of hooks"
   end
   for name, f in pairs(value) do
      if not hooks[name] then
         return false, "a table of connect, login, logged_in, capa, retrieved, quit, disconnect; there is no hook "
            .. tostring(name)
      end
      if type(f) ~= "function" then
         return false, "a table of functions; " .. name .. " is none"
      end
   end
   return true
end

local states = { trans = true, auth = true, both = true }

local function check_command(keyword, command)
   if type(keyword) ~= "string" or not keyword:find("^%u[%u%d%-]*$") or #keyword > 40 then
      return "keywords are of capital letters and digits; " .. tostring(keyword) .. " is none"
   end
   if command == false or type(command) == "function" and not core.verb(keyword) then
      return nil
   end
   if type(command) == "function" or type(command) == "table" and core.verb(keyword) and not command.override then
      return keyword .. " is built in; replacing it needs { run =, override = true }"
   end
   if type(command) ~= "table" or type(command.run) ~= "function" then
      return keyword .. " is neither a function, { run = } nor false"
   end
   if command.states ~= nil and not states[command.states] then
      return keyword .. '.states is not "trans", "auth" or "both"'
   end
   local capa = command.capa
   if capa ~= nil and (type(capa) ~= "string" or capa:find("%c") or #capa > 500) then
      return keyword .. ".capa is not a line of text"
   end
end

local function commands(value)
   if type(value) ~= "table" then
      return false, "a table of commands"
   end
   for keyword, command in pairs(value) do
      local wrong = check_command(keyword, command)
      if wrong then
         return false, "a table of commands; " .. wrong
      end
   end
   return true
end

local function tls_option(value)
   local wrong = value ~= false and tls.check(value)
   return not wrong, nil, wrong
end

-- One line of UTF-8 without controls, short enough for a reply with a code.
local function is_line(value)
   return type(value) == "string" and value ~= "" and #value <= 400 and not value:find("[%c\127]")
      and utf8.len(value) ~= nil
end

-- RFC 5646's grammar in short: subtags of 1 to 8 letters and digits.
local function is_tag(tag)
   if type(tag) ~= "string" or #tag > 35 or not (tag .. "-"):find("^%a+%-") or tag:lower() == "i-default" then
      return false
   end
   for subtag in (tag .. "-"):gmatch("([^-]*)-") do
      if not subtag:find("^%w+$") or #subtag > 8 then
         return false
      end
   end
   return true
end

local function check_language(tag, language)
   if not is_tag(tag) then
      return tostring(tag) .. " is no language tag"
   end
   if type(language) ~= "table" or not is_line(language.name) or type(language.texts) ~= "table" then
      return tag .. " is no { name = \"its name\", texts = { … } }"
   end
   for english, text in pairs(language.texts) do
      if type(english) ~= "string" or not is_line(text) or text:find("^%[") then
         return ("%s.texts[%q] is no line of UTF-8: at most 400 octets, no control octets, no [ at its begin")
            :format(tag, tostring(english))
      end
   end
end

local function languages(value)
   local seen, n = {}, 0
   if type(value) ~= "table" then
      return false, "a table of languages"
   end
   for tag, language in pairs(value) do
      local wrong = check_language(tag, language) or seen[tag:lower()] and tag .. " is there twice"
      if wrong then
         return false, "a table of languages; " .. wrong
      end
      seen[tag:lower()], n = true, n + 1
   end
   return n <= 64, "a table of at most 64 languages"
end

local function expire(value)
   return value == false or value == "NEVER" or math.type(value) == "integer" and value >= 0,
      'days (an integer), "NEVER" or false'
end

-- name = { default, check }; a default of nil: the option has no value
local known = {
   port = { 110, port },
   address = { nil, is("string") },
   auth = { nil, auth },
   storage = { nil, storage },
   socket = { nil, is("function") },
   tls = { nil, tls_option },
   proxy = { nil, networks },
   plain_login = { "local", one_of("always", "local", "tls") },
   on = { nil, on },
   commands = { nil, commands },
   languages = { nil, languages },
   expire = { false, expire },
   login_delay = { false, delay },
   max_connections = { 10000, count },
   max_per_address = { 50, count },
   max_per_user = { 10, count },
   login_timeout = { 60, time },
   handshake_timeout = { 20, time },
   idle_timeout = { 600, time },
   write_timeout = { 300, time },
   max_failures = { 3, count },
   failure_delay = { 2, delay },
   max_bad_commands = { 100, count },
   line_limit = { 255, line_limit },
   callback_timeout = { 30, time },
   callback_instructions = { 1e8, count },
   renew_interval = { 10, time },
}

local function names()
   local list = { "state" }
   for name in pairs(known) do
      list[#list + 1] = name
   end
   table.sort(list)
   return table.concat(list, ", ")
end

--- Every option at its default.
-- @treturn table
function options.defaults()
   local values = {}
   for name, row in pairs(known) do
      values[name] = row[1]
   end
   return values
end

--- Raises at the caller's caller unless there is such an option.
-- @string name
-- @int level as for `error`
function options.check_name(name, level)
   if name ~= "state" and not known[name] then
      error(("unknown option '%s'; there are: %s"):format(tostring(name), names()), level + 1)
   end
end

-- What a check expected; behind a semicolon it says which part of the value is
-- wrong, and then the value as a whole tells nothing more.
local function mismatch(expected, value)
   local what, detail = expected:match("^(.-); (.*)$")
   if detail then
      return ("%s expected; %s"):format(what, detail)
   end
   local shown = type(value) == "table" and "a table" or tostring(value)
   return ("%s expected, got %s"):format(expected, shown)
end

--- Raises unless an option may have this value.
-- @string name
-- @param value
-- @int level as for `error`
function options.check(name, value, level)
   options.check_name(name, level + 1)
   if name == "state" then
      error("option 'state' is read-only; use up, down and destroy", level + 1)
   end
   local ok, expected, wrong = known[name][2](value)
   if not ok then
      wrong = wrong or mismatch(expected, value)
      error(("option '%s': %s"):format(name, wrong), level + 1)
   end
end

return options
