-- One function in place of a table of functions, as Tcl's pop3d takes a command
-- prefix: it is called with an operation's name and its arguments, and is asked
-- Tcl's operations only.
--
--     popd-lua examples/tcl_style.lua [PORT]
--     curl pop3://joe:secret@127.0.0.1:1110/1
local popd = require("popd")

local passwords = { joe = "secret", ann = "hush" }

-- exists name, lookup name
local function auth(operation, name)
   if operation == "exists" then
      return passwords[name] ~= nil
   end
   return passwords[name], "box-of-" .. name -- lookup: password and storage reference
end

local boxes = {
   ["box-of-joe"] = { "Subject: first\n\none\n", "Subject: second\n\ntwo\n" },
   ["box-of-ann"] = {},
}
local locked = {}

local function total(messages)
   local sum = 0
   for _, message in ipairs(messages) do
      sum = sum + popd.octets(message)
   end
   return sum
end

-- lock box, unlock box, stat box, size box ?id?, get box id, dele box ids
local function storage(operation, box, id)
   local messages = boxes[box]
   if operation == "lock" then
      local free = not locked[box]
      locked[box] = true
      return free
   elseif operation == "unlock" then
      locked[box] = nil
   elseif operation == "stat" then
      return #messages
   elseif operation == "size" then
      return id and popd.octets(messages[id]) or total(messages)
   elseif operation == "get" then
      return messages[id]
   elseif operation == "dele" then
      local ids = id
      for i = #ids, 1, -1 do -- from the end: removing one moves those behind it
         table.remove(messages, ids[i])
      end
      return true
   end
end

popd.new("tcl", { port = tonumber(arg[1] or 1110), auth = auth, storage = storage }):up()
popd.run()
