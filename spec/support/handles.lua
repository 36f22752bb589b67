--- What message handles hold, for specs.
local handle = require("popd.handle")

local handles = {}

--- All of a handle's octets.
function handles.text(h)
   local pull, close = assert(handle.pull(h))
   local parts = {}
   for chunk in pull do
      parts[#parts + 1] = chunk
   end
   if close then
      close()
   end
   return table.concat(parts)
end

return handles
