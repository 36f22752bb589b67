--- Lets a callback wait inside coroutines of its own.
--
-- A coroutine that waits (`popd.sleep` in a generator, say) yields a token to
-- whoever resumed it.  The library's `resume` and `wrap` are replaced by ones
-- that pass such a token on, down to the callback's own coroutine, and its
-- answer back up.  Everything else they leave alone; outside callbacks no
-- token ever comes.
-- @module popd.carry
local core = require("popd.core")

local token, adopt = core.token, core.adopt
local resume, yield, isyieldable = coroutine.resume, coroutine.yield, coroutine.isyieldable
local running, status, close = coroutine.running, coroutine.status, coroutine.close

local refusal = "popd: this callback cannot wait here: a coroutine of it waits, but the function that resumed "
   .. "that coroutine runs inside table.sort, string.gsub, require or the like, where Lua cannot be paused"

local function carry(co, ok, first, ...)
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

local function unwrap(co, ok, ...)
   if ok then
      return ...
   end
   local err = ...
   if status(co) == "dead" then
      local closed, why = close(co)
      if not closed then
         err = why
      end
   end
   error(err, 0)
end

if not coroutine.popd_carries then
   coroutine.resume = carried_resume

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

   coroutine.popd_carries = true
end

return true
