-- What clients do that a server could take amiss, each as octets on the wire.
local corpus = require("support.corpus")
local files = require("support.files")
local process = require("support.process")
local wire = require("support.wire")

local LOGIN = "USER joe\r\nPASS secret\r\n"

describe("popd-lua", function()
   local root, server, messages

   before_each(function()
      root, messages = files.new_dir(), corpus.small(9)
      corpus.write(root .. "/joe", messages)
      server = process.serve_maildir(root)
   end)

   after_each(function()
      server:stop()
      files.remove(root)
   end)

   local function talk(octets)
      return wire.replies(wire.talk(server.port, octets))
   end

   local function left()
      return select(2, corpus.left(root .. "/joe"))
   end

   -- The greeting and the replies to USER and PASS.
   local function take_login(replies)
      for _ = 1, 3 do
         assert.matches("^%+OK", replies:line())
      end
   end

   local function take_messages(replies)
      for _, message in ipairs(messages) do
         assert.matches("^%+OK", replies:line())
         assert.equal(corpus.stuffed(message.wire), replies:multi())
      end
   end

   -- One command for each message.
   local function each(command)
      local list = {}
      for n = 1, #messages do
         list[n] = command:format(n)
      end
      return table.concat(list, "\r\n") .. "\r\n"
   end

   it("answers 29 commands that come in one segment, as Emacs sends them", function()
      local replies = talk(LOGIN .. "STAT\r\nLIST\r\n" .. each("RETR %d") .. each("DELE %d")
         .. "NOOP\r\nUIDL\r\nRSET\r\nDELE 2\r\nDELE 3\r\nSTAT\r\nQUIT\r\n")
      take_login(replies)
      assert.matches("^%+OK 9 ", replies:line())
      assert.matches("^%+OK", replies:line())
      replies:multi()
      take_messages(replies)
      for _ = 1, #messages + 1 do -- DELE and NOOP
         assert.matches("^%+OK", replies:line())
      end
      assert.matches("^%+OK", replies:line())
      assert.equal(".\r\n", replies:multi()) -- all are marked
      for _ = 1, 3 do -- RSET, DELE, DELE
         assert.matches("^%+OK", replies:line())
      end
      assert.matches("^%+OK 7 ", replies:line())
      assert.matches("^%+OK", replies:line())
      assert.equal("", replies:rest())
      assert.equal(7, left())
   end)

   it("takes keywords in lower case, as rabid writes them", function()
      local replies = talk("user joe\r\npass secret\r\nstat\r\n" .. each("retr %d") .. each("dele %d") .. "quit\r\n")
      take_login(replies)
      assert.matches("^%+OK 9 ", replies:line())
      take_messages(replies)
      assert.equal(0, left())
   end)

   it("takes NOOP at any time after login, as Jakarta Mail sends it", function()
      local replies = talk(LOGIN .. "NOOP\r\nNOOP\r\n" .. each("RETR %d") .. "NOOP\r\nQUIT\r\n")
      take_login(replies)
      assert.matches("^%+OK", replies:line())
      assert.matches("^%+OK", replies:line())
      take_messages(replies)
      assert.matches("^%+OK", replies:line())
      assert.matches("^%+OK", replies:line())
   end)

   it("says that it can be sent commands ahead, as mpop wants to know", function()
      local replies = talk("CAPA\r\n" .. LOGIN .. "CAPA\r\nQUIT\r\n")
      assert.matches("^%+OK", replies:line())
      assert.matches("^%+OK", replies:line())
      assert.matches("\r\nPIPELINING\r\n", "\r\n" .. replies:multi())
      assert.matches("^%+OK", replies:line()) -- USER
      assert.matches("^%+OK", replies:line()) -- PASS
      assert.matches("^%+OK", replies:line())
      assert.matches("\r\nPIPELINING\r\n", "\r\n" .. replies:multi())
   end)

   it("sends a whole message for TOP n 99999999, as older fetchmails ask for it", function()
      local replies = talk(LOGIN .. each("TOP %d 99999999") .. "QUIT\r\n")
      take_login(replies)
      take_messages(replies)
   end)

   it("goes on after an unknown LAST before each of 60 RETRs, as tcllib's client sends it", function()
      local replies = talk(LOGIN .. ("LAST\r\nRETR 1\r\n"):rep(60) .. "QUIT\r\n")
      take_login(replies)
      for _ = 1, 60 do
         assert.matches("^%-ERR", replies:line())
         assert.matches("^%+OK", replies:line())
         assert.equal(corpus.stuffed(messages[1].wire), replies:multi())
      end
      assert.matches("^%+OK", replies:line())
   end)

   it("tells the octets of a message in RETR's reply, which tcllib's client reads by", function()
      local replies = talk(LOGIN .. each("RETR %d") .. "QUIT\r\n")
      take_login(replies)
      for _, message in ipairs(messages) do
         assert.matches(("^%%+OK %d octets\r\n$"):format(#message.wire), replies:line())
         replies:multi()
      end
   end)

   it("lets the next session in as soon as QUIT was answered, as mutt wants it", function()
      for n = 8, 0, -1 do
         local replies = talk(LOGIN .. "DELE 1\r\nQUIT\r\n")
         take_login(replies)
         assert.matches("^%+OK", replies:line())
         assert.matches("^%+OK", replies:line())
         assert.equal(n, left())
      end
   end)

   it("sends a message whole whose name tells a wrong size, and logs that", function()
      local stored = "Subject: odd\n\nbody\n"
      local name = ("1800000000.M1P1.host,S=%d,W=%d"):format(#stored, #stored + 1)
      files.put(root .. "/joe/new/" .. name, stored)
      local replies = talk(LOGIN .. "RETR 10\r\nQUIT\r\n")
      take_login(replies)
      assert.matches("^%+OK", replies:line())
      assert.equal(corpus.wire(stored) .. ".\r\n", replies:multi())
      local _, log = server:stop()
      assert.matches("wrong size", log)
   end)
end)
