--- A storage for specs: messages in memory, every call recorded, locks counted.
local assert = require("luassert")
local client = require("support.client")

local store = {}

--- What the core makes of a message: CRLF line ends, and one at its end.
function store.wire(text)
   text = text:gsub("\r?\n", "\r\n")
   if text ~= "" and text:sub(-2) ~= "\r\n" then
      text = text .. "\r\n"
   end
   return text
end

local function shown(value)
   if type(value) == "userdata" then
      return (tostring(value):gsub("^conn %d+$", "conn"))
   elseif type(value) == "table" then
      local parts = {}
      for i, one in ipairs(value) do
         parts[i] = tostring(one)
      end
      return "{" .. table.concat(parts, " ") .. "}"
   end
   return tostring(value)
end

--- A call as text: `size(joe, nil, conn)`.
function store.call(name, ...)
   local args = table.pack(...)
   for i = 1, args.n do
      args[i] = shown(args[i])
   end
   return ("%s(%s)"):format(name, table.concat(args, ", "))
end

--- Wraps a table of functions so that calls are added to a list.
function store.record(calls, functions, prefix)
   local made = {}
   for name, f in pairs(functions) do
      made[name] = type(f) ~= "function" and f or function(...)
         calls[#calls + 1] = store.call((prefix or "") .. name, ...)
         return f(...)
      end
   end
   return made
end

local function functions_of(s, messages)
   local f = {}

   function f.lock()
      if s.held > 0 then
         return false
      end
      s.held, s.locks = s.held + 1, s.locks + 1
      return true
   end

   function f.unlock()
      s.held, s.unlocks = s.held - 1, s.unlocks + 1
   end

   function f.stat()
      return #messages
   end

   function f.size(_, id)
      local sum = 0
      for i, message in ipairs(messages) do
         if not id or id == i then
            sum = sum + #store.wire(message)
         end
      end
      return sum
   end

   function f.get(_, id)
      return messages[id]
   end

   function f.uidl(_, id)
      return "uid-" .. id
   end

   function f.dele(_, ids)
      for i = #ids, 1, -1 do
         table.remove(messages, ids[i])
      end
      return true
   end

   return f
end

--- Messages of one user; `changes` replaces functions, or takes them away with
-- false.  At the spec's end its lock must be free.
-- @return an object with `storage`, `calls`, `messages`, `held`, `locks`, `unlocks`
function store.new(messages, changes)
   local s = { calls = {}, messages = messages, held = 0, locks = 0, unlocks = 0 }
   local f = functions_of(s, messages)
   s.plain = {}
   for name, one in pairs(f) do
      s.plain[name] = one
   end
   for name, one in pairs(changes or {}) do
      f[name] = one or nil
   end
   s.storage = store.record(s.calls, f)
   client.check_at_end(function()
      assert.equal(0, s.held, "a lock is left behind")
      assert.equal(s.locks, s.unlocks, "unlocks as many as locks")
   end)
   return s
end

--- Auth that knows joe, whose password is "secret", and ann, "open".
store.auth = {
   lookup = function(name)
      local password = ({ joe = "secret", ann = "open" })[name]
      if password then
         return password, name
      end
   end,
}

--- A server with such a storage: the server, and the store.
function store.server(messages, options, changes)
   local s = store.new(messages or {}, changes)
   local all = { auth = store.auth, storage = s.storage }
   for key, value in pairs(options or {}) do
      all[key] = value
   end
   return client.server(all), s
end

return store
