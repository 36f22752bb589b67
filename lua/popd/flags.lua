--- The words of a command line.
-- @module popd.flags
local flags = {}

--- Takes a command's flags off its words.  A value stands behind its flag or
-- behind `=`; `--` ends the flags.
-- @tparam table words with integer keys, as `arg`
-- @int first where to begin
-- @tparam table known what each flag is kept as, by flag: a key for one that
-- takes a value, `{ key }` for one that does not
-- @treturn table the values by key, and `rest`: where the other words begin; or
-- nil and what is wrong
-- @usage flags.parse(arg, 1, { ["--port"] = "port", ["--help"] = { "help" } })
function flags.parse(words, first, known)
   local found, i = {}, first
   while words[i] and words[i]:find("^%-.") do
      local flag, value = words[i]:match("^(%-%-[^=]+)=(.*)$")
      flag = flag or words[i]
      i = i + 1
      if flag == "--" then
         break
      elseif type(known[flag]) == "table" then
         if value then
            return nil, flag .. " takes no value"
         end
         found[known[flag][1]] = true
      elseif known[flag] then
         if not value then
            value, i = words[i], i + 1
         end
         if not value then
            return nil, flag .. " needs a value"
         end
         found[known[flag]] = value
      else
         return nil, "unknown option " .. flag
      end
   end
   found.rest = i
   return found
end

--- An error's text without the place in our own code where it was raised.
-- @param err
-- @treturn string
function flags.plain(err)
   return (tostring(err):gsub("^[%w%._/-]+:%d+: ", ""))
end

--- Says on standard error what is wrong with a command line.
-- @string text
-- @treturn integer 2, the status to exit with
function flags.fail(text)
   io.stderr:write("popd-lua: ", text, "\nTry 'popd-lua --help'.\n")
   return 2
end

return flags
