--- MD5 in plain Lua (RFC 1321), so that specs do not check the core against itself.
local K, S = {}, { { 7, 12, 17, 22 }, { 5, 9, 14, 20 }, { 4, 11, 16, 23 }, { 6, 10, 15, 21 } }
for i = 0, 63 do
   K[i] = math.floor(math.abs(math.sin(i + 1)) * 2 ^ 32)
end

local function mix(round, i, b, c, d)
   if round == 1 then
      return (b & c) | (~b & d), i
   elseif round == 2 then
      return (d & b) | (~d & c), (5 * i + 1) % 16
   elseif round == 3 then
      return b ~ c ~ d, (3 * i + 5) % 16
   end
   return c ~ (b | (~d & 0xffffffff)), 7 * i % 16
end

local function block(text, at, a0, b0, c0, d0)
   local words = table.pack(("<" .. ("I4"):rep(16)):unpack(text, at))
   local a, b, c, d = a0, b0, c0, d0
   for i = 0, 63 do
      local round = i // 16 + 1
      local f, g = mix(round, i, b, c, d)
      f = (f + a + K[i] + words[g + 1]) & 0xffffffff
      local s = S[round][i % 4 + 1]
      a, d, c = d, c, b
      b = (b + ((f << s) | (f >> (32 - s)))) & 0xffffffff
   end
   return (a0 + a) & 0xffffffff, (b0 + b) & 0xffffffff, (c0 + c) & 0xffffffff, (d0 + d) & 0xffffffff
end

--- The digest in hex, lower case.
return function(text)
   local whole = text .. "\x80" .. ("\0"):rep((55 - #text) % 64) .. ("<I8"):pack(8 * #text)
   local a, b, c, d = 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476
   for at = 1, #whole, 64 do
      a, b, c, d = block(whole, at, a, b, c, d)
   end
   return (("<I4I4I4I4"):pack(a, b, c, d):gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end))
end
