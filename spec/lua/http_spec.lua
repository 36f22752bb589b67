-- popd.http against a server that the spec plays, octet by octet.
local client = require("support.client")
local peer = require("support.peer")
local popd = require("popd")

local http = popd.http

-- Starts a request; its task, the connection that it came by, and the request's head.
local function start(listener, options, path)
   local task = peer.task(http, ("http://127.0.0.1:%d%s"):format(listener.port, path or "/"), options)
   return task, listener:accept()
end

-- A request's head, without the empty line.
local function head_of(p)
   local at = p:want("a request's head", function(buffer)
      return buffer:find("\r\n\r\n", 1, true)
   end)
   return (p:take(at + 3):sub(1, -5))
end

-- What comes of an answer; the server closes after it unless told otherwise.
local function answered(octets, options, stays)
   local listener = peer.listen()
   local task, p = start(listener, options)
   head_of(p)
   p:send(octets)
   if not stays then
      p:shutdown()
   end
   local answer, why = task:values()
   listener:close()
   return answer, why
end

local OK = "HTTP/1.1 200 OK\r\n"

describe("popd.http", function()
   after_each(client.finish)

   it("sends a request as RFC 9112 has it, and returns the answer", function()
      local listener = peer.listen()
      local task, p = start(listener, nil, "/a?b=c#d")
      assert.equal(("GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:%d"):format(listener.port), head_of(p))
      p:send(OK .. "Content-Length: 5\r\nX-A: 1\r\nx-a:  2 \r\nEmpty:\r\n\r\nhello")
      assert.same({
         status = 200, reason = "OK", body = "hello",
         headers = { ["content-length"] = "5", ["x-a"] = "1, 2", empty = "" },
      }, task:values())
   end)

   it("sends a body with its length, header fields, and another method", function()
      local listener = peer.listen()
      local task, p = start(listener, {
         body = '{"user":"joe"}', headers = { ["Content-Type"] = "application/json", ["X-Many"] = { "1", 2 } },
      })
      local head = head_of(p)
      assert.truthy(head:find("^POST / HTTP/1.1\r\nHost: "))
      for _, line in ipairs { "Content-Type: application/json", "Content-Length: 14", "X-Many: 1\r\nX-Many: 2" } do
         assert.truthy((head .. "\r\n"):find("\r\n" .. line .. "\r\n", 1, true), line)
      end
      assert.equal('{"user":"joe"}', p:octets(14))
      p:send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
      assert.equal(204, task:values().status)
      task, p = start(listener, { method = "PUT" })
      assert.truthy(head_of(p):find("^PUT / .*\r\nContent%-Length: 0$"))
      p:send("HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n")
      assert.same({ 500, "" }, { task:values().status, task:values().reason })
   end)

   it("sends user and password by Basic, and tells them in no error", function()
      local listener = peer.listen()
      local task = peer.task(http, ("http://joe:p%%40ss@127.0.0.1:%d/"):format(listener.port))
      local p = listener:accept()
      assert.truthy(head_of(p):find("Authorization: Basic am9lOnBAc3M=", 1, true))
      p:close()
      local answer, why = task:values()
      assert.is_nil(answer)
      assert.equal(("http://127.0.0.1:%d: closed"):format(listener.port), why)
      for _, url in ipairs { "http://joe:secret@", "ftp://joe:secret@host/", "http://joe:secret@host:99999/",
         "http://joe:secret@ho st/", "http://joe:secret@host/a b", "joe:secret@host", "http://joe:secret@[x]/" } do
         answer, why = http(url)
         assert.is_nil(answer)
         assert.is_nil(why:find("secret", 1, true), why)
      end
   end)

   -- an answer                                                     its body
   local bodies = {
      { "by its length", OK .. "Content-Length: 3\r\n\r\nabc", "abc", stays = true },
      { "by two equal lengths", OK .. "Content-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabc", "abc", stays = true },
      { "until the end", OK .. "\r\nabc\r\n", "abc\r\n" },
      { "of HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nabc", "abc" },
      { "in chunks", OK .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n",
         "abc0123456789",
         stays = true },
      { "in chunks with extensions and trailers",
         OK .. "transfer-encoding: Chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n1 ; c\r\nd\r\n000\r\nX: y\r\n\r\n", "abcd",
            stays = true },
      { "with bare LFs", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "x", stays = true },
      { "behind interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" .. OK
         .. "Content-Length: 1\r\n\r\nx", "x", stays = true },
      { "that is none: 204", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "", stays = true },
      { "that is none: 304", "HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", "", stays = true },
      { "that is none: HEAD", OK .. "Content-Length: 5\r\n\r\n", "", stays = true, options = { method = "HEAD" } },
      { "as long as allowed", OK .. "Content-Length: 3\r\n\r\nabc", "abc", options = { max = 3 } },
   }
   for _, case in ipairs(bodies) do
      it("takes a body " .. case[1], function()
         local answer, why = answered(case[2], case.options, case.stays)
         assert.equal(case[3], answer and answer.body, why)
      end)
      it("takes a body " .. case[1] .. ", an octet at a time", function()
         local listener = peer.listen()
         local task, p = start(listener, case.options)
         head_of(p)
         for octet in case[2]:gmatch(".") do
            p:send(octet)
            popd.step(0)
         end
         if not case.stays then
            p:shutdown()
         end
         local answer, why = task:values()
         assert.equal(case[3], answer and answer.body, why)
      end)
   end

   local broken = {
      { "no HTTP", "SSH-2.0-x\r\n\r\n", "the answer is no HTTP" },
      { "another HTTP", "HTTP/2.0 200 OK\r\n\r\n", "the answer is no HTTP" },
      { "a status that is none", "HTTP/1.1 2000 OK\r\n\r\n", "the answer is no HTTP" },
      { "nothing", "", "closed" },
      { "half a status line", "HTTP/1.1 2", "ends in the middle" },
      { "half a head", OK .. "A: b\r\n", "ends in the middle" },
      { "half a body", OK .. "Content-Length: 5\r\n\r\nabc", "ends in the middle" },
      { "half a chunk", OK .. "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "ends in the middle" },
      { "no last chunk", OK .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "ends in the middle" },
      { "a field without a colon", OK .. "what\r\n\r\n", "a header field that is none" },
      { "a folded field", OK .. "A: b\r\n c\r\n\r\n", "a header field that is none" },
      { "a field with a blank before its colon", OK .. "A : b\r\n\r\n", "a header field that is none" },
      { "two lengths", OK .. "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "two lengths" },
      { "a length that is none", OK .. "Content-Length: -1\r\n\r\n", "length is no number" },
      { "an empty length", OK .. "Content-Length:\r\n\r\n", "length is no number" },
      { "a length beyond measure", OK .. "Content-Length: 99999999999999999999999\r\n\r\n", "length is no number" },
      { "a length of more than max", OK .. "Content-Length: 11\r\n\r\n", "longer than 10 octets (max)" },
      { "more than max until the end", OK .. "\r\n01234567890", "longer than 10 octets (max)" },
      { "more than max in chunks", OK .. "Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n",
         "longer than 10 octets" },
      { "a chunk without a size", OK .. "Transfer-Encoding: chunked\r\n\r\n\r\n", "a chunk without a size" },
      { "a chunk whose size is none", OK .. "Transfer-Encoding: chunked\r\n\r\n5x\r\nabcde\r\n",
         "a chunk without a size" },
      { "a chunk beyond measure", OK .. "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "too large" },
      { "a chunk that is longer than it told", OK .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
         "a chunk of another" },
      { "another encoding", OK .. "Transfer-Encoding: gzip, chunked\r\n\r\n", "encoded in a way that is not known" },
      { "an endless status line", "HTTP/1.1 200 " .. ("x"):rep(70000), "longer than 65536 octets" },
      { "an endless field", OK .. "A: " .. ("x"):rep(70000), "header fields are longer than 65536 octets" },
      { "endless fields", OK .. ("A: b\r\n"):rep(20000), "header fields are longer than 65536 octets" },
      { "an endless size line", OK .. "Transfer-Encoding: chunked\r\n\r\n1;" .. ("x"):rep(9000), "longer than 8192" },
      { "endless trailers", OK .. "Transfer-Encoding: chunked\r\n\r\n0\r\n" .. ("A: b\r\n"):rep(20000), "longer than" },
   }
   for _, case in ipairs(broken) do
      it("refuses " .. case[1], function()
         local answer, why = answered(case[2], { max = 10 })
         assert.is_nil(answer)
         assert.truthy(why:find("^http://127.0.0.1:%d+: ") and why:find(case[3], 1, true), why)
      end)
   end

   it("is not slowed down by a field of blanks", function()
      local answer = answered(OK .. "A: x" .. (" "):rep(60000) .. "y\r\nContent-Length: 0\r\n\r\n", nil, true)
      assert.equal(60002, #answer.headers.a)
   end)

   it("ends at its time, wherever the server stops", function()
      local chunked = OK .. "Transfer-Encoding: chunked\r\n\r\n"
      for _, octets in ipairs { "", "HTTP/1.1", OK, OK .. "A: b\r\n", OK .. "\r\n", OK .. "Content-Length: 5\r\n\r\nab",
         chunked, chunked .. "5\r\nab", chunked .. "1\r\na\r\n0\r\n", "HTTP/1.1 100 Continue\r\n\r\n" } do
         local answer, why = answered(octets, { timeout = 0.01 }, true)
         assert.is_nil(answer)
         assert.truthy(why:find(": timeout$"), why)
      end
      local listener = peer.listen()
      local task = start(listener, { timeout = 0.05, body = ("x"):rep(30000000) })
      assert.truthy(select(2, task:values()):find(": timeout$")) -- nobody reads the request
   end)

   it("ends at its time although the server trickles", function()
      local listener = peer.listen()
      local task, p = start(listener, { timeout = 0.1 })
      head_of(p)
      p:send(OK .. "\r\n")
      client.wait_for("the end", function()
         pcall(p.socket.send, p.socket, "x")
         return task.packed
      end)
      assert.truthy(select(2, task:values()):find(": timeout$"))
   end)

   it("takes an answer that came before the request was read", function()
      local listener = peer.listen()
      local task, p = start(listener, { body = ("x"):rep(3000000) })
      head_of(p)
      p:send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
      p:shutdown()
      peer.settle()
      p:close()
      local answer, why = task:values()
      assert.equal(413, answer and answer.status, why)
      assert.equal("no", answer.body)
   end)

   it("says why there is no connection", function()
      local port = peer.dead_port()
      assert.same({ nil, ("http://127.0.0.1:%d: connection refused"):format(port) },
         { peer.run(http, ("http://127.0.0.1:%d/"):format(port)) })
      local answer, why = peer.run(http, "http://no.such.host.invalid/")
      assert.is_nil(answer)
      assert.truthy(why:find("^http://no.such.host.invalid: "))
   end)

   it("raises a caller's mistake at the caller's line", function()
      local url = "http://127.0.0.1:1/"
      for what, f in pairs {
         ["a URL (a string) expected"] = function() http(nil) end,
         ["options are a table"] = function() http(url, 1) end,
         ["unknown option 'x'; there are: body, ca, headers, max, method, redirects, timeout, verify"] = function()
            http(url, { x = 1 })
         end,
         ["option 'timeout' takes a number"] = function() http(url, { timeout = "1" }) end,
         ["capital letters"] = function() http(url, { method = "GET / HTTP/1.1\r\nX: y" }) end,
         ["is no header field's name"] = function() http(url, { headers = { ["A: b\r\nC"] = "d" } }) end,
         ["is no header field's name "] = function() http(url, { headers = { [""] = "d" } }) end,
         ["is no header field's name  "] = function() http(url, { headers = { "d" } }) end,
         ["holds a line end or NUL"] = function() http(url, { headers = { A = "b\r\nC: d" } }) end,
         ["holds a line end or NUL "] = function() http(url, { headers = { A = { "x", "b\nC" } } }) end,
         ["is a boolean, a text expected"] = function() http(url, { headers = { A = true } }) end,
         ["there is no Transfer-Encoding"] = function() http(url,
            { headers = { ["transfer-encoding"] = "chunked" } }) end,
         ["Content-Length is not the body's"] = function()
            http(url, { body = "abc", headers = { ["Content-Length"] = 2 } })
         end,
      } do
         local ok, err = pcall(f)
         assert.is_false(ok, what)
         assert.truthy(err:find("^spec/lua/http_spec.lua:%d+: popd.http: "), err)
         assert.truthy(err:find(what:gsub(" +$", ""), 1, true), err)
      end
   end)

   it("sends no line end of a URL's", function()
      assert.same({ nil, "the URL holds a blank or a control octet" }, { http("http://127.0.0.1/a\r\nX: y") })
      assert.same({ nil, "the URL has no host, or a port that is none" }, { http("http://127.0.0.1\r\nX: y/") })
   end)
end)

describe("popd.http's connection", function()
   after_each(client.finish)

   local EMPTY = OK .. "Content-Length: 0\r\n\r\n"

   it("serves the next request to the same place", function()
      local listener = peer.listen()
      local task, p = start(listener)
      head_of(p)
      p:send(EMPTY)
      task:results()
      task = peer.task(http, ("http://127.0.0.1:%d/2"):format(listener.port))
      assert.truthy(head_of(p):find("^GET /2 "))
      p:send(EMPTY)
      task:results()
      assert.is_true(listener:idle())
   end)

   it("is closed where the answer says so, is of HTTP/1.0, or its end is the body's", function()
      for _, octets in ipairs { OK .. "Connection: close\r\nContent-Length: 0\r\n\r\n",
         "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", OK .. "Content-Length: 0\r\n\r\nmore",
         OK .. "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" } do
         local listener = peer.listen()
         local task, p = start(listener)
         head_of(p)
         p:send(octets)
         assert.equal(200, task:values().status)
         assert.is_true(p:closed())
      end
   end)

   it("is kept for HTTP/1.0 with keep-alive", function()
      local listener = peer.listen()
      local task, p = start(listener)
      for _ = 1, 2 do
         head_of(p)
         p:send("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n")
         task:results()
         task = peer.task(http, ("http://127.0.0.1:%d/"):format(listener.port))
      end
      assert.is_true(listener:idle())
      head_of(p)
      p:close()
      listener:accept():close()
      task:wait()
   end)

   it("that the server closed meanwhile is not used again", function()
      local listener = peer.listen()
      local task, p = start(listener)
      head_of(p)
      p:send(EMPTY)
      p:shutdown()
      task:results()
      peer.settle()
      task, p = start(listener)
      head_of(p)
      p:send(EMPTY)
      assert.equal(200, task:values().status)
   end)

   -- A kept connection that the server closes as soon as the next request has come.
   local function stale(options)
      local listener = peer.listen()
      local task, p = start(listener)
      head_of(p)
      p:send(EMPTY)
      task:results()
      task = peer.task(http, ("http://127.0.0.1:%d/again"):format(listener.port), options)
      head_of(p)
      p:close()
      return listener, task
   end

   it("that closes before any answer has the request sent once more, by a new one", function()
      local listener, task = stale()
      local p = listener:accept()
      assert.truthy(head_of(p):find("^GET /again "))
      p:send(EMPTY)
      assert.equal(200, task:values().status)
   end)

   it("has the request sent once more only once", function()
      local listener, task = stale()
      local p = listener:accept()
      head_of(p)
      p:close()
      assert.truthy(select(2, task:values()):find(": closed$"))
      assert.is_true(listener:idle())
   end)

   it("never has a POST sent twice", function()
      local listener, task = stale { body = "pay" }
      assert.truthy(select(2, task:values()):find(": closed$"))
      assert.is_true(listener:idle())
   end)

   it("that closes within an answer has nothing sent again", function()
      local listener = peer.listen()
      local task, p = start(listener)
      head_of(p)
      p:send(EMPTY)
      task:results()
      task = peer.task(http, ("http://127.0.0.1:%d/again"):format(listener.port))
      head_of(p)
      p:send("HTTP/1.1 2")
      p:close()
      assert.truthy(select(2, task:values()):find("ends in the middle", 1, true))
      assert.is_true(listener:idle())
   end)

   it("is one request's at a time, whoever asks", function()
      local listener = peer.listen()
      local tasks, conns = {}, {}
      for i = 1, 20 do
         tasks[i] = peer.task(function()
            local bodies = {}
            for n = 1, 3 do
               bodies[n] = http(("http://127.0.0.1:%d/%d/%d"):format(listener.port, i, n)).body
            end
            return table.concat(bodies, " ")
         end)
      end
      client.wait_for("all answers", function()
         local sock = listener.socket:accept()
         if sock then
            conns[#conns + 1] = client.wrap(sock)
         end
         for _, p in ipairs(conns) do
            p:fill()
            local path = p.buffer:match("^GET (%S+) .-\r\n\r\n")
            if path then
               assert.equal(1, select(2, p.buffer:gsub("GET ", "")), "two requests at once")
               p.buffer = ""
               p:send(OK .. ("Content-Length: %d\r\n\r\n%s"):format(#path, path))
            end
         end
         for _, task in ipairs(tasks) do
            if not task.packed then
               return false
            end
         end
         return true
      end)
      for i, task in ipairs(tasks) do
         assert.equal(("/%d/1 /%d/2 /%d/3"):format(i, i, i), task:values())
      end
   end)

   it("is closed where its request is broken off", function()
      local listener = peer.listen()
      local task, p = start(listener)
      head_of(p)
      task.job:cancel()
      assert.truthy(task:raised():find("cancelled", 1, true))
      assert.is_true(p:closed())
   end)
end)

describe("popd.http's redirects", function()
   after_each(client.finish)

   local function redirect(to, status)
      return ("HTTP/1.1 %d Go\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"):format(
         status or 302, to)
   end

   it("are not followed unless asked", function()
      local answer = answered(redirect("/there"))
      assert.same({ 302, "/there" }, { answer.status, answer.headers.location })
   end)

   -- Follows one; the second request's head, and its server's port.
   local function follow(to, options, status, url)
      local listener, other = peer.listen(), peer.listen()
      options.redirects = options.redirects or 1
      local task = peer.task(http, (url or "http://joe:pw@127.0.0.1:%d/a/b?c"):format(listener.port), options)
      local p = listener:accept()
      head_of(p)
      p:send(redirect(to:gsub("OTHER", "127.0.0.1:" .. other.port), status))
      local away = to:find("OTHER", 1, true)
      p = (away and other or listener):accept()
      local head = head_of(p)
      p:send(OK .. "Content-Length: 4\r\nConnection: close\r\n\r\ndone")
      assert.equal("done", task:values().body)
      return head
   end

   it("lead to where Location says", function()
      for to, path in pairs {
         ["/x"] = "/x", ["x"] = "/a/x", ["//OTHER/y"] = "/y", ["http://OTHER/z?q"] = "/z?q", ["http://OTHER"] = "/",
      } do
         assert.truthy(follow(to, {}):find("GET " .. path .. " ", 1, true), to)
      end
   end)

   it("take secrets along to the same place only", function()
      local secrets = { headers = { Authorization = "Bearer t", Cookie = "c=d", ["X-Y"] = "z" } }
      local head = follow("/x", secrets)
      assert.truthy(head:find("Bearer t", 1, true) and head:find("c=d", 1, true))
      head = follow("http://OTHER/", secrets)
      assert.is_nil(head:find("Bearer", 1, true) or head:find("c=d", 1, true))
      assert.truthy(head:find("X-Y: z", 1, true))
      assert.truthy(follow("/x", {}):find("Authorization: Basic", 1, true))
      assert.is_nil(follow("http://OTHER/", {}):find("Authorization", 1, true))
   end)

   it("make GET of POST, but for 307 and 308", function()
      local post = { body = "abc", headers = { ["Content-Type"] = "text/plain" } }
      for status, expected in pairs { [301] = "GET", [302] = "GET", [303] = "GET", [307] = "POST", [308] = "POST" } do
         local head = follow("/x", post, status)
         assert.truthy(head:find("^" .. expected), status .. head)
         assert.equal(expected == "POST", head:find("Content-", 1, true) ~= nil)
      end
   end)

   it("end after as many as allowed", function()
      local listener = peer.listen()
      local task = peer.task(http, ("http://127.0.0.1:%d/"):format(listener.port), { redirects = 2 })
      for _ = 1, 3 do
         local p = listener:accept()
         head_of(p)
         p:send(redirect("/"))
      end
      assert.equal(302, task:values().status)
   end)

   it("lead nowhere but to HTTP", function()
      for to, why in pairs { ["file:///etc/passwd"] = "a redirect leads nowhere", ["http://a b/"] = "leads nowhere" } do
         local answer, reason = answered(redirect(to), { redirects = 1 })
         assert.is_nil(answer)
         assert.truthy(reason:find(why, 1, true), reason)
      end
   end)
end)
