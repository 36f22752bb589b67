-- The bench's own programs: its figures are worth something only if wrong mail is found.
local files = require("spec.support.files")
local process = require("spec.support.process")

local BIN = (os.getenv("POPD_BUILD") or "build") .. "/bench/"

describe("the bench's load generator", function()
   local dir, stop

   before_each(function()
      dir = files.new_dir()
   end)

   after_each(function()
      if stop then
         stop()
      end
      stop = nil
      files.remove(dir)
   end)

   local function make_mail(box, users)
      files.run("%s maildir %s %s %s", BIN .. "mailbox", box, tostring(users), dir .. "/mail")
   end

   -- The port of popd-lua, which serves that mail as it does in the bench.
   local function serve()
      local server = process.start { "bench/site.lua", dir .. "/mail", "0" }
      stop = function()
         server:stop()
      end
      return server:wait_port()
   end

   -- The port of the limit server.
   local function limit(arguments)
      local pipe = assert(io.popen(("echo $$; exec %slimit %s"):format(BIN, arguments)))
      local pid = pipe:read("l")
      stop = function()
         files.run("kill " .. pid)
         pipe:close()
      end
      return math.tointeger(tonumber(pipe:read("l"):match("^port=(%d+)$")))
   end

   -- Whether all was right, what was seen by its names, and all that was said.
   local function load(port, arguments)
      local ok, text = process.run { "sh", "-c", ("%sload --port %d --seconds 60 %s"):format(BIN, port, arguments) }
      local seen = {}
      for key, value in text:gmatch("([%w_]+)=([%d.]+)") do
         seen[key] = tonumber(value)
      end
      return ok, seen, text
   end

   -- what the generator is told, sessions, replies of each
   local runs = {
      { "--workload session", 6, 27 },
      { "--workload session --pipeline", 6, 27 },
      { "--workload login", 6, 4 },
   }

   for _, run in ipairs(runs) do
      local arguments, sessions, replies = table.unpack(run)
      it("finds nothing wrong with popd-lua: " .. arguments, function()
         make_mail("session", 2)
         local ok, seen, text = load(serve(), ("%s --connections 2 --count %d"):format(arguments, sessions))
         assert.is_true(ok, text)
         assert.same({ sessions, sessions * replies }, { seen.sessions, seen.replies })
         assert.same({ 0, 0 }, { seen.wrong, seen.unexpected })
      end)
   end

   it("finds nothing wrong with a big message of popd-lua's", function()
      make_mail("retr", 1)
      local ok, seen, text = load(serve(), "--workload retr --count 1")
      assert.is_true(ok, text)
      assert.equal(1, seen.sessions)
   end)

   it("resumes at least 99 % of the TLS sessions that popd-lua's clients ask for", function()
      assert(process.run { process.program(), "cert", "--out", dir, "localhost" })
      make_mail("session", 2)
      local server = process.start { "bench/site.lua", dir .. "/mail", "0", dir .. "/cert.pem", dir .. "/key.pem" }
      stop = function()
         server:stop()
      end
      local ok, seen, text = load(server:wait_port(), "--workload greet --resume --connections 4 --count 404")
      assert.is_true(ok, text)
      assert.equal(400, seen.asked)
      assert.is_true(seen.resumed >= 396, text)
   end)

   it("finds nothing wrong with the limit server", function()
      local port = limit("--workload session")
      local ok, seen, text = load(port, "--workload session --pipeline --connections 3 --count 30")
      assert.is_true(ok, text)
      assert.equal(30, seen.sessions)
   end)

   it("finds nothing wrong with a message that is read and converted", function()
      make_mail("retr", 1)
      local message = files.first_line("ls " .. dir .. "/mail/u0/cur/*")
      local port = limit("--workload retr --convert " .. files.quote(message))
      local ok, seen, text = load(port, "--workload retr --count 1")
      assert.is_true(ok, text)
      assert.equal(1, seen.sessions)
   end)

   it("finds a bit that is wrong", function()
      local ok, seen, text = load(limit("--workload session --flip"), "--workload session --count 2")
      assert.is_false(ok)
      assert.same({ 0, 2, 0 }, { seen.sessions, seen.wrong, seen.unexpected })
      assert.is_truthy(text:find("u0, RETR: a wrong body", 1, true), text)
   end)

   it("finds a reply that is not the workload's", function()
      local ok, seen, text = load(limit("--workload login"), "--workload session --count 2")
      assert.is_false(ok)
      assert.equal(0, seen.sessions)
      assert.equal(1, seen.unexpected, text)
   end)
end)
