--- Forms that auth and storage may have: a table of functions, or one function.
-- @module popd.forms
local forms = {}

local tcl_auth = { "exists", "lookup" }
local tcl_storage = { "dele", "lock", "unlock", "size", "stat", "get" }

-- What was made of functions, by these: each has one form.
local auths, storages = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })

-- A single function is asked Tcl's operations only.
local function as_table(value, operations, known)
   if type(value) ~= "function" then
      return value
   elseif known[value] then
      return known[value]
   end
   local made = {}
   for _, operation in ipairs(operations) do
      made[operation] = function(...)
         return value(operation, ...)
      end
   end
   known[value] = made
   return made
end

local nothing = { -- without storage every maildrop is empty
   stat = function()
      return 0
   end,
   get = function() end,
}

--- Auth as a table of functions, however it was given; nil for none.
function forms.auth(value)
   return as_table(value, tcl_auth, auths)
end

--- Storage as a table of functions, however it was given.
function forms.storage(value)
   return as_table(value, tcl_storage, storages) or nothing
end

return forms
