--- Messages that popd.check puts into a maildrop: whatever a storage could
-- stumble over.
-- @module popd.samples
local samples = {}

-- Behind a first line that names the message.  Line ends are as they stand.
local texts = {
   "Subject: plain\r\n\r\nOne line.\r\nAnother one.\r\n",
   "Subject: line ends of LF alone\n\nOne line.\n\nAnother one.\n",
   "Subject: mixed line ends\r\n\nOne line.\r\nAnother one.\n",
   "Subject: dots\r\n\r\n.\r\n..\r\n.a line that starts with one\r\n. \r\nend.\r\n",
   "Subject: no line end at the end\r\n\r\nThe last line is open",
   "Subject: no body\r\n\r\n",
   "Subject: 8 bit\r\n\r\nGr\xc3\xbc\xc3\x9fe \xff\xfe\x80\xa0\r\n",
   "Subject: a long line\r\n\r\n" .. ("long "):rep(1200) .. "\r\nshort\r\n",
   "Subject: large\r\n\r\n" .. ("A line of sixty-two octets, so that the sum of them is large.\r\n"):rep(8000),
}
local BIG = 9

-- Behind these come two small ones, put while a session is open and after a deletion.
local LATER = "Subject: later\r\n\r\nThis one came later.\r\n"

-- A message as POP3 sends it.
local function wire(text)
   text = text:gsub("\r?\n", "\r\n")
   return text:sub(-2) == "\r\n" and text or text .. "\r\n"
end

--- Where two texts begin to differ, in words.
-- @string expected
-- @string got
-- @treturn string
function samples.difference(expected, got)
   local at, most = 1, math.min(#expected, #got)
   while at <= most and expected:byte(at) == got:byte(at) do
      at = at + 1
   end
   if at > #expected and at > #got then
      return "the same text"
   end
   local function shown(text)
      local piece = text:sub(at, at + 19)
      return piece == "" and "its end" or ("%q"):format(piece):gsub("\\\n", "\\n"):gsub("\r", "\\r"):gsub("\\13", "\\r")
   end
   return ("octet %d on it is %s, where %s was expected (%d octets in all, %d expected)"):format(
      at, shown(got), shown(expected), #got, #expected)
end

--- Messages of one check.
-- @string random octets that make their names differ from those of other checks
-- @return an object: `count` of the texts, and functions by number and by name
function samples.new(random)
   local nonce = random:gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end)
   local one = { count = #texts }

   --- A message's name.
   function one.name(number)
      return ("%s-%d"):format(nonce, number)
   end

   --- A message's text.
   function one.text(number)
      local text = texts[number] or LATER
      return ("X-Popd-Check: %s%s%s"):format(one.name(number), text:match("\r?\n"), text)
   end

   --- The name in a message as it was sent; nil: it is none of these.
   function one.token(body)
      return body:match("^X%-Popd%-Check: (" .. nonce .. "%-%d+)\r\n")
   end

   --- What is sent for a name.
   function one.wire(name)
      return wire(one.text(math.tointeger(tonumber(name:match("%d+$")))))
   end

   --- The number, in what a session shows, of the large one; or nil.
   function one.big(seen)
      for id = 1, seen.n do
         if seen[id].token == one.name(BIG) then
            return id
         end
      end
   end

   return one
end

return samples
