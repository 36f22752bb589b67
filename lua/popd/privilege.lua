--- Which user the program serves as.
--
-- Started as root it opens ports and reads keys as root, and becomes the user
-- of `--user` before the loop turns for the first time.  Root may compute, but
-- serves nobody unless `--user root` says so.
-- @module popd.privilege
local core = require("popd.core")
local server = require("popd.server")

local privilege = {}

local ROOT = 0

local advice = "started as root: name the user to serve as, or deliver as, with --user NAME (the owner of the mail), "
   .. "or say --user root if it has to be root"

--- What is wrong with `--user`, before anything else is done.
-- @string[opt] name
-- @bool serves whether it is clear already that somebody will be served
-- @treturn string or nil
function privilege.check(name, serves)
   if not name then
      return serves and core.own_id() == ROOT and advice or nil
   end
   local id, err = core.user_id(name)
   if not id then
      return "--user: " .. err
   elseif core.own_id() ~= ROOT and id ~= core.own_id() then
      return ("--user: only root can become '%s'; start popd-lua as root, or as that user"):format(name)
   end
end

local function leave(text, status)
   io.stderr:write("popd-lua: ", text, "\n")
   os.exit(status)
end

local function drop(name)
   local ok, err = core.drop(name)
   if not ok then
      leave("--user: " .. err, 1)
   end
   core.log("info", "serving as", { user = name })
end

--- Becomes that user at once, for a command that serves nobody but makes files.
-- @string[opt] name root must say one, perhaps `root`
-- @treturn string nil, or why it cannot
function privilege.become(name)
   local wrong = privilege.check(name, true)
   if wrong or not name or core.user_id(name) == core.own_id() then
      return wrong
   end
   local ok, err = core.drop(name)
   return not ok and "--user: " .. err or nil
end

-- What is called each time before the loop turns, and when a server goes up
-- while it turns.  Where the wrong user would serve it ends the program, which
-- no `pcall` of a script can hide.
local function gate(name)
   if core.own_id() == ROOT and not name then
      return function()
         if server.is_any_up() then
            leave(advice, 2)
         end
      end
   end
   local done = not name or core.user_id(name) == ROOT
   return function()
      if not done then
         done = true
         drop(name)
      end
   end
end

--- Puts the gate before the loop: from now on `popd.run` and `popd.step` drop
-- what root may before they run it.
-- @tparam table popd the module
-- @string[opt] name the user
function privilege.guard(popd, name)
   local pass, turning = gate(name), false
   for _, way in ipairs { "run", "step" } do
      popd[way] = function(...)
         pass()
         turning = true
         local ok, result = pcall(core[way], ...)
         if not ok then
            error(result, 2)
         end
         return result
      end
   end
   server.when_up(function()
      if turning then
         pass()
      end
   end)
end

return privilege
