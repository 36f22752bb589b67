-- getmail6 fetches from a popd server and hands each message to `popd-lua deliver`.
local corpus = require("support.corpus")
local files = require("support.files")
local fs = require("popd.fs")
local process = require("support.process")

local MESSAGES = 20

local has_driver = pcall(require, "luasql.sqlite3")

local config = [[
[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = %d
username = joe
password = secret

[destination]
type = MDA_external
path = %s
arguments = (%s)
unixfrom = %s
allow_root_commands = true

[options]
read_all = true
delete = true
delivered_to = true
received = true
verbose = 0
]]

describe("popd-lua deliver as getmail's MDA", function()
   local dir, server

   before_each(function()
      dir = files.new_dir()
      files.run("mkdir %s %s", dir .. "/to", dir .. "/home")
   end)

   after_each(function()
      if server then
         server:stop()
      end
      server = nil
      files.remove(dir)
   end)

   -- Fetches all that there is; true, or false and what getmail said.
   local function fetch(store, unixfrom)
      local words = { "deliver", "--store", store }
      table.move(files.as_oneself(), 1, 2, #words + 1, words)
      words[#words + 1] = "joe"
      local quoted = {}
      for i, word in ipairs(words) do
         quoted[i] = ("%q"):format(word)
      end
      local rc = files.put(dir .. "/home/getmailrc", config:format(server.port, files.absolute(process.program()),
         table.concat(quoted, ", "), unixfrom and "true" or "false"))
      files.run("chmod 600 %s", rc)
      return process.run({ "getmail", "--getmaildir", dir .. "/home", "--rcfile", rc }, { home = dir .. "/home" })
   end

   -- The same for what it misses: the end of a child that was quicker than its own
   -- wait for it.  It then fetches that message again.
   local function fetch_all(store, unixfrom)
      local ok, said
      for _ = 1, 3 do
         ok, said = fetch(store, unixfrom)
         if ok or not said:find("waiting child pid %d+ timed out") then
            break
         end
      end
      assert.is_true(ok, said)
   end

   -- Without what came twice for that reason.
   local function distinct(list)
      local found = {}
      for _, one in ipairs(list) do
         found[#found + 1] = one ~= found[#found] and one or nil
      end
      return found
   end

   local function serve()
      local messages = corpus.small(MESSAGES)
      corpus.write(dir .. "/joe", messages)
      server = process.serve_maildir(dir)
      return messages
   end

   local function with_getmail(name, f)
      it(name, function()
         if not process.has("getmail") then
            return pending("getmail6 is not installed")
         end
         f()
      end)
   end

   -- Bodies are what getmail does not touch.
   local function bodies(texts)
      local found = {}
      for i, text in ipairs(texts) do
         found[i] = text:gsub("\r\n", "\n"):match("\n\n(.*)$") or text
      end
      table.sort(found)
      return found
   end

   local function distinct_bodies(texts)
      return distinct(bodies(texts))
   end

   local function wanted(messages)
      local texts = {}
      for i, message in ipairs(messages) do
         texts[i] = message.wire
      end
      return distinct_bodies(texts)
   end

   local function in_new()
      local texts = {}
      for i, name in ipairs(assert(fs.scandir(dir .. "/to/joe/new"))) do
         texts[i] = files.text(dir .. "/to/joe/new/" .. name)
      end
      return texts
   end

   for _, unixfrom in ipairs { false, true } do
      local what = unixfrom and ", without the line that getmail puts first" or ""
      with_getmail("puts all messages into a Maildir" .. what, function()
         local messages = serve()
         fetch_all("maildir:" .. dir .. "/to/%n", unixfrom)
         local texts = in_new()
         for _, text in ipairs(texts) do
            assert.matches("^Return%-Path: ", text)
         end
         assert.same(wanted(messages), distinct_bodies(texts))
         assert.same({}, fs.scandir(dir .. "/joe/new"))
      end)
   end

   with_getmail("puts all messages into an SQLite file", function()
      if not has_driver then
         return pending("LuaSQL's sqlite3 driver is not installed")
      end
      local messages = serve()
      local store = require("popd.sqlite").new { file = dir .. "/mail.db", threads = 1 }
      assert(store.add("joe", "{PLAIN}secret"))
      fetch_all("sqlite:" .. dir .. "/mail.db")
      local texts = {}
      for one in store.export("joe", {}) do
         texts[#texts + 1] = one.message
      end
      assert.same(wanted(messages), distinct_bodies(texts))
   end)

   with_getmail("leaves mail on the server while it cannot deliver, and has it tried again", function()
      local messages = serve()
      files.run("rmdir %s", dir .. "/to")
      fetch("maildir:" .. dir .. "/to/%n")
      local n = 0
      for _, sub in ipairs { "new", "cur" } do
         n = n + #(fs.scandir(dir .. "/joe/" .. sub) or {})
      end
      assert.equal(MESSAGES, n)
      files.run("mkdir %s", dir .. "/to")
      fetch_all("maildir:" .. dir .. "/to/%n")
      assert.same(wanted(messages), distinct_bodies(in_new()))
   end)
end)
