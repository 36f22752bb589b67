-- What the soak's server has threads do.
local slow = {}

function slow.double(n)
   return 2 * n
end

--- Blocks its thread for longer than a callback may take.
function slow.hang(seconds)
   os.execute("sleep " .. seconds)
end

return slow
