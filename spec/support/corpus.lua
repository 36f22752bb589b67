--- A Maildir of varied messages, the same at each run, and what each of them is
-- on the wire.
--
--     local messages = corpus.messages()
--     corpus.write(dir .. "/joe", messages)
--     messages[7].wire   -- message 7 as RETR sends it, before dot-stuffing
local files = require("support.files")

local corpus = {}

local BIG = 20 * 1024 * 1024
local FIRST_DELIVERY = 1700000000

-- Chance, the same at each run -----------------------------------------------

-- A linear congruential generator, so that no other use of math.random counts.
local seed

local function random(n)
   seed = (seed * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff
   return (seed >> 33) % n + 1
end

local function pick(list)
   return list[random(#list)]
end

local function many(n, f, between)
   local list = {}
   for i = 1, n do
      list[i] = f(i)
   end
   return table.concat(list, between or "\n")
end

local WORDS = {
   "the", "meeting", "of", "harbour", "minutes", "was", "moved", "to", "Thursday", "and", "invoice", "attached",
   "please", "find", "a", "small", "boat", "with", "two", "sails", "regards", "ticket", "closed", "build", "failed",
}
local UTF8 = { "Grüße", "café", "naïve", "Łódź", "日本語", "Привет", "😀", "Ελληνικά", "–", "„so“" }
local LATIN1 = { "Gr\xfc\xdfe", "caf\xe9", "na\xefve", "\xa312", "\xa9 2004", "ni\xf1o" }

local function words(n, also)
   return many(n, function()
      return also and random(3) == 1 and pick(also) or pick(WORDS)
   end, " ")
end

local function paragraph(lines, also)
   return many(lines, function()
      return words(3 + random(9), also)
   end)
end

local BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- Lines of 76 base64 digits.
local function base64_lines(n)
   return many(n, function()
      return many(76, function()
         local at = random(64)
         return BASE64:sub(at, at)
      end, "")
   end)
end

-- Headers --------------------------------------------------------------------

local function header(i, more)
   local lines = {
      ("Received: from relay%d.example.net (relay%d.example.net [192.0.2.%d])"):format(i, i, i % 250),
      ("\tby mx.example.org with ESMTP id %08x"):format(random(0x7fffffff)),
      ("\tfor <joe@example.org>; Tue, 14 Nov 2023 %02d:%02d:%02d +0000"):format(i // 60 % 24, i % 60, random(59)),
      ("From: Sender %d <sender%d@example.net>"):format(i, i),
      "To: joe@example.org",
      "Subject: " .. words(4),
      ("Date: Tue, 14 Nov 2023 %02d:%02d:00 +0000"):format(i // 60 % 24, i % 60),
      ("Message-ID: <%d.%08x@example.net>"):format(i, random(0x7fffffff)),
   }
   if more then
      lines[#lines + 1] = more
   end
   return table.concat(lines, "\n") .. "\n"
end

local function mime(kind, encoding)
   return ("MIME-Version: 1.0\nContent-Type: %s\nContent-Transfer-Encoding: %s"):format(kind, encoding or "7bit")
end

local function multipart(kind, parts)
   local mark = ("=_part_%08x"):format(random(0x7fffffff))
   local list = { "This is a message in several parts.\n" }
   for _, part in ipairs(parts) do
      list[#list + 1] = "--" .. mark .. "\n" .. part .. "\n"
   end
   list[#list + 1] = "--" .. mark .. "--"
   return ('%s;\n boundary="%s"'):format(kind, mark), table.concat(list)
end

local function quoted_printable(text)
   return (text:gsub("[\x80-\xff=]", function(octet)
      return ("=%02X"):format(octet:byte())
   end))
end

-- Kinds of messages: each returns header and body, with LF line ends and no
-- last one -------------------------------------------------------------------

local kinds = {
   { "plain text", function(i)
      return header(i), paragraph(1 + random(30))
   end },
   { "8-bit Latin-1", function(i)
      return header(i, mime("text/plain; charset=iso-8859-1", "8bit")), paragraph(10, LATIN1)
   end },
   { "UTF-8", function(i)
      return header(i, mime("text/plain; charset=utf-8", "8bit")), paragraph(10, UTF8)
   end },
   { "quoted-printable", function(i)
      local text = paragraph(8, UTF8):gsub("\n", "=20=\n\n")
      return header(i, mime("text/plain; charset=utf-8", "quoted-printable")), quoted_printable(text)
   end },
   { "text and HTML", function(i)
      local kind, body = multipart("multipart/alternative", {
         "Content-Type: text/plain\n\n" .. paragraph(5),
         "Content-Type: text/html\n\n<html>\n<body>\n<p>" .. paragraph(5) .. "</p>\n</body>\n</html>",
      })
      return header(i, mime(kind)), body
   end },
   { "an attachment", function(i)
      local kind, body = multipart("multipart/mixed", {
         "Content-Type: text/plain\n\n" .. paragraph(3),
         'Content-Type: image/jpeg; name="boat.jpg"\nContent-Transfer-Encoding: base64\n\n'
            .. base64_lines(100 + random(600)),
      })
      return header(i, mime(kind)), body
   end },
   { "a message within a message", function(i)
      local kind, body = multipart("multipart/mixed", {
         "Content-Type: message/rfc822\n\n" .. header(i + 1000) .. "\n" .. paragraph(4),
         "Content-Type: text/plain\n\n" .. paragraph(2),
      })
      return header(i, mime(kind)), body
   end },
   { "dot lines", function(i)
      local dots = { ".", "..", "...", ". ", ".hidden", "..hidden", ".\t.", "no dot", "", "in.the.middle" }
      return header(i), ".\n" .. many(20 + random(100), function()
         return pick(dots)
      end) .. "\n."
   end },
   { "From_ lines", function(i)
      return header(i), "From joe@example.org Tue Nov 14 12:00:00 2023\n>From the start\n\nFrom " .. paragraph(5)
   end },
   { "folded headers", function(i)
      local references = "References: " .. many(20, function(k)
         return ("<%d.%d@example.net>"):format(i, k)
      end, "\n ")
      return header(i, references .. "\nX-Note: one\n\ttwo\n  three"), paragraph(4)
   end },
   { "blank lines", function(i)
      return header(i), "\n\n" .. words(3) .. "\n\n\n" .. words(2) .. "\n\n\n"
   end },
   { "trailing blanks", function(i)
      return header(i, mime("text/plain; format=flowed")), many(10, function()
         return words(5) .. pick { " ", "  ", "\t", "" }
      end) .. "\n-- \n" .. words(2)
   end },
   { "8-bit headers", function(i)
      return header(i, "X-Topic: " .. words(3, UTF8) .. "\nX-Old: " .. words(3, LATIN1)), paragraph(3)
   end },
   { "encoded words", function(i)
      return header(i, "Comments: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?utf-8?B?w7xiZXI=?=\nX-Empty:"), paragraph(3)
   end },
   { "a delivery report", function(i)
      local kind, body = multipart("multipart/report; report-type=delivery-status", {
         "Content-Type: text/plain\n\n" .. paragraph(3),
         "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n"
            .. "Final-Recipient: rfc822; ann@example.org\nAction: failed\nStatus: 5.1.1\n",
         "Content-Type: text/rfc822-headers\n\n" .. header(i + 2000),
      })
      return "Return-Path: <>\n" .. header(i, mime(kind)), body
   end },
   { "a mailing list", function(i)
      local list = "Return-Path: <list-bounces@example.org>\nDelivered-To: joe@example.org\n"
      return list .. header(i, "List-Id: <list.example.org>\nStatus: RO\nX-Status: A"), paragraph(12)
         .. "\n_______________\nlist mailing list"
   end },
}

-- Messages that are there once: what they are, and the octets as stored.
local function specials()
   local long = ("0123456789"):rep(1000)
   return {
      { "the first octet a dot", ".X-Odd: yes\n" .. header(900) .. "\nbody\n" },
      { "a lone dot first", ".\n" .. header(901) .. "\nbody\n" },
      { "an empty body", header(902) .. "\n" },
      { "headers only", header(903) },
      { "headers only, no final line end", (header(904):gsub("\n$", "")) },
      { "lines of 10 000 octets", header(905) .. "\n" .. long .. "\n" .. long .. "\nend\n" },
      { "lines of 10 000 octets, CRLF", (header(906) .. "\n." .. long .. "\nend\n"):gsub("\n", "\r\n") },
      { "a line of 10 000 octets, open", header(907) .. "\n" .. long },
      { "a line of 10 000 dots", header(908) .. "\n" .. ("."):rep(10000) .. "\n.\n" },
      { "a header line of 10 000 octets", "X-Long: " .. long .. "\n" .. header(909) .. "\nbody\n" },
      { "a From_ line first", "From joe@example.org Tue Nov 14 12:00:00 2023\n" .. header(910) .. "\nbody\n" },
      { "nothing at all", "" },
      { "NUL octets", header(912) .. "\nbefore\0after\n\0\n" },
      { "bare CRs", header(913) .. "\none\rtwo\r\r\nthree\n" },
      { "many dots, CRLF", (header(914) .. "\n" .. (".\n..\n"):rep(30000)):gsub("\n", "\r\n") },
      { "dots at every edge", header(915) .. "\n" .. many(400, function(i)
         return "." .. ("x"):rep(i)
      end) .. "\n" },
   }
end

-- Storing --------------------------------------------------------------------

--- What a message is on the wire, before dot-stuffing: CRLF line ends, also at
-- its end.
function corpus.wire(stored)
   local wire = stored:gsub("\r?\n", "\r\n")
   if wire ~= "" and wire:sub(-2) ~= "\r\n" then
      wire = wire .. "\r\n"
   end
   return wire
end

--- The octets that follow the status line of RETR.
function corpus.stuffed(wire)
   return ("\r\n" .. wire):gsub("\r\n%.", "\r\n.."):sub(3) .. ".\r\n"
end

local line_ends = {
   { "LF", function(text)
      return text
   end },
   { "CRLF", function(text)
      return (text:gsub("\n", "\r\n"))
   end },
   { "mixed", function(text)
      local n = 0
      return (text:gsub("\n", function()
         n = n + 1
         return n % 3 == 0 and "\r\n" or "\n"
      end))
   end },
}

-- Where a message is, and what its name says besides: sizes and flags.
local places = {
   "new/%s", "new/%s", "cur/%s:2,", "cur/%s:2,S", "cur/%s:2,RS", "cur/%s:2,FST", "cur/%s",
}
local tags = {
   function() return "" end,
   function() return "" end,
   function(stored) return (",S=%d"):format(#stored) end,
   function(stored, wire) return (",S=%d,W=%d"):format(#stored, #wire) end,
   function(stored) return (",S=%d,W=%d"):format(#stored + 7, #stored + 20) end, -- both wrong
   function(stored) return (",S=%d,W=1"):format(#stored) end, -- impossible
   function(stored) return (",W=%d"):format(#stored + 3) end, -- says nothing without S
}

local function add(list, kind, stored)
   local wire, number = corpus.wire(stored), #list + 1
   local name = ("%d.M%06dP%d.host.example%s"):format(
      FIRST_DELIVERY + number, random(999999), 1000 + number, tags[number % #tags + 1](stored, wire))
   list[number] = {
      number = number,
      kind = kind,
      file = places[random(#places)]:format(name),
      stored = stored,
      wire = wire,
   }
end

local function big_message()
   local block = base64_lines(99) .. "\n.dotted\n"
   local blocks = BIG // #block + 1
   return header(999, mime("application/octet-stream", "base64")) .. "\n" .. block:rep(blocks)
end

--- Makes the messages, in the order in which they are served.
-- @treturn table each with `number`, `kind`, `file` (where it is in the
-- Maildir), `stored` (its octets there) and `wire`
function corpus.messages()
   local list = {}
   seed = 20231114
   for round = 1, 12 do
      for i, kind in ipairs(kinds) do
         local ends = line_ends[(round + i) % #line_ends + 1]
         local head, body = kind[2](#list + 1)
         local text = head .. "\n" .. body .. (round % 4 == 0 and "" or "\n")
         add(list, kind[1] .. ", " .. ends[1], ends[2](text))
      end
   end
   for _, special in ipairs(specials()) do
      add(list, special[1], special[2])
   end
   add(list, "20 MB", big_message())
   return list
end

--- Makes some small messages.
-- @int n how many
function corpus.small(n)
   local list = {}
   seed = 7
   for i = 1, n do
      add(list, "small", header(i) .. "\n" .. paragraph(5) .. "\n.\n")
   end
   return list
end

--- Writes them as a Maildir.
function corpus.write(dir, messages)
   files.run("mkdir -p %s/new %s/cur %s/tmp", dir, dir, dir)
   for _, message in ipairs(messages) do
      files.put(dir .. "/" .. message.file, message.stored)
   end
end

--- The names of the files in a Maildir.
-- @treturn table by name ("cur/…"): true
-- @treturn integer how many
function corpus.left(dir)
   local pipe = assert(io.popen("cd " .. files.quote(dir) .. " && find new cur -type f"))
   local names, n = {}, 0
   for name in pipe:lines() do
      names[name], n = true, n + 1
   end
   pipe:close()
   return names, n
end

return corpus
