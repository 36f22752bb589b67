--- Lets a callback wait inside coroutines of its own.
--
-- A coroutine that waits (`popd.sleep` in a generator, say) yields a token to
-- whoever resumed it.  The library's `resume` and `wrap` are replaced by ones
-- that pass such a token on, down to the callback's own coroutine, and its
-- answer back up.  Everything else they leave alone; outside callbacks no
-- token ever comes.
--
-- And it keeps code from where no guard could stop it.  A guard raises its
-- error in a hook, and there Lua has hooks disabled: in the handler of an
-- `xpcall`, which is not called for such an error, and for ever in a coroutine
-- that died of it, which is not closed.
-- @module popd.carry
local core = require("popd.core")

local token, adopt = core.token, core.adopt
local resume, yield, isyieldable = coroutine.resume, coroutine.yield, coroutine.isyieldable
local running, status, close = coroutine.running, coroutine.status, coroutine.close
local hooked, has_struck = core.hooked, core.struck
local xpcall, traceback = xpcall, debug.traceback

local refusal = "popd: this callback cannot wait here: a coroutine of it waits, but the function that resumed "
   .. "that coroutine runs inside table.sort, string.gsub, require or the like, where Lua cannot be paused"

local unclosable = "popd: a guard has stopped this coroutine; it cannot be closed"

local struck = setmetatable({}, { __mode = "k" }) -- coroutines that died of a guard's error

local function carry(co, ok, first, ...)
   if not ok and has_struck(co) then
      struck[co] = true
   end
   if not ok or first ~= token then
      return ok, first, ...
   end
   if not isyieldable() then
      core.unwait()
      return carry(co, resume(co, false, refusal))
   end
   return carry(co, resume(co, yield(token)))
end

local function carried_resume(co, ...)
   adopt(co)
   return carry(co, resume(co, ...))
end

local function carried_close(co)
   if struck[co] then
      return false, unclosable
   end
   return close(co)
end

local function unwrap(co, ok, ...)
   if ok then
      return ...
   end
   local err = ...
   if status(co) == "dead" and not struck[co] then
      local closed, why = close(co)
      if not closed then
         err = why
      end
   end
   error(err, 0)
end

-- debug.traceback needs no guard, and would show it.
local function guarded(handler)
   if type(handler) ~= "function" or handler == traceback then
      return handler
   end
   return function(...)
      if hooked() then
         return ...
      end
      return handler(...)
   end
end

if not coroutine.popd_carries then
   coroutine.resume = carried_resume
   coroutine.close = carried_close

   function coroutine.wrap(f)
      local co = coroutine.create(f)
      return function(...)
         return unwrap(co, carried_resume(co, ...))
      end
   end

   -- A coroutine that a script has in its hands is not given to another callback.
   function coroutine.running()
      core.expose()
      return running()
   end

   function coroutine.popd_carries(f, handler, ...)
      return xpcall(f, guarded(handler), ...)
   end
end

-- Who saves and restores globals takes this one away, but not those in a table.
_G.xpcall = coroutine.popd_carries

return true
