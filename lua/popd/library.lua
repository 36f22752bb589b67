--- Libraries that were written for LuaSocket, on popd's sockets.
-- @module popd.library
local https = require("popd.https")
local socket = require("popd.socket")
local ssl = require("popd.ssl")

local library = {}

-- What libraries get in place of their own: by name, what makes it.
local ours = {}

-- A copy: LuaSocket's libraries add to the table.
local function copy(module)
   local made = {}
   for key, value in pairs(module) do
      made[key] = value
   end
   return made
end

for _, name in ipairs { "socket", "socket.core" } do
   ours[name] = function()
      return copy(socket)
   end
end

ours["socket.unix"] = function()
   local unix = socket.unix
   return setmetatable({ stream = unix, tcp = unix }, {
      __call = function()
         return unix()
      end,
   })
end

function ours.ssl()
   return copy(ssl)
end

ours["ssl.https"] = https

local standard = {
   _G = true, package = true, coroutine = true, table = true, io = true, os = true, string = true, math = true,
   utf8 = true, debug = true,
}

local loaded = {} -- the copies, by name

-- What a library sees as its globals: the script's, but for `require`.  What it
-- sets stays its own.
local globals = setmetatable({}, { __index = _G })
globals._G = globals

-- The loader of a module, and what it is to be told besides the name.
local function find(name)
   local tried = {}
   for _, searcher in ipairs(package.searchers) do
      local loader, extra = searcher(name)
      if type(loader) == "function" then
         return loader, extra
      end
      tried[#tried + 1] = type(loader) == "string" and loader or nil
   end
   error(("popd.require: module '%s' is not found:%s"):format(name, table.concat(tried)), 4)
end

-- A Lua chunk is given our globals; what C has made needs none.
local function adopt(loader)
   for i = 1, math.huge do
      local name = debug.getupvalue(loader, i)
      if name == "_ENV" then
         debug.upvaluejoin(loader, i, function()
            return globals
         end, 1)
         return
      elseif not name then
         return
      end
   end
end

local function load_library(name)
   local value
   if ours[name] then
      value = ours[name](library.require)
   elseif standard[name] or name == "popd" or name:find("^popd%.") or package.preload[name] then
      return require(name)
   else
      local loader, extra = find(name)
      adopt(loader)
      value = loader(name, extra)
   end
   -- a module that returns nothing may have set its own entry, as with `require`
   return value == nil and (loaded[name] or true) or value
end

--- Loads a library so that its `socket`, `socket.unix`, `ssl` and `ssl.https` are popd's.  A copy is loaded for
-- `popd.require` alone, with all that it requires: `package.loaded` and what others have loaded stay as they are.
-- @string name as for `require`
-- @return the library; the same at each call.  Raises where it is not found
-- @usage
-- local redis = popd.require "redis"
-- local http = popd.require "socket.http"
function library.require(name)
   if type(name) ~= "string" then
      error(("popd.require: a module's name expected, got a %s"):format(type(name)), 2)
   end
   if loaded[name] == nil then
      loaded[name] = load_library(name)
   end
   return loaded[name]
end

globals.require = library.require

return library
