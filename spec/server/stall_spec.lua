-- A socket that refuses a write and takes the next one at once: whoever has seen
-- the refusal must still go on.  A library before libc makes every tenth send
-- refuse, so that no luck is needed.
local files = require("support.files")
local process = require("support.process")
local socket = require("socket")

local SHIM = [[
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

ssize_t
send(int fd, const void *bytes, size_t n, int flags)
{
    static unsigned calls;
    ssize_t (*real)(int, const void *, size_t, int) =
        (ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");

    if (++calls % 10 != 0)
        return real(fd, bytes, n, flags);
    errno = EAGAIN;
    return -1;
}
]]

local SERVER = [[
local dir = %q
local popd = require("popd")
local message = ("x"):rep(76) .. "\n"
local server = popd.new { port = 0, address = "127.0.0.1", idle_timeout = 600, write_timeout = 600,
   tls = { cert = dir .. "/cert.pem", key = dir .. "/key.pem" },
   auth = { lookup = function(name) return "secret", name end },
   storage = require("popd.memory").new { joe = { message:rep(200000) } } }
server:listen { port = 0, address = "127.0.0.1", tls = "implicit" }
server:up()
]]

describe("a socket that refuses a write now and then", function()
   local dir, server

   if os.getenv("POPD_INTERPRETER") then
      pending("is none where a sanitizer's runtime has to come before all else")
      return
   end

   setup(function()
      dir = files.new_dir()
      files.put(dir .. "/shim.c", SHIM)
      assert.is_true(process.run { "cc", "-shared", "-fPIC", "-o", dir .. "/shim.so", dir .. "/shim.c", "-ldl" })
      assert.is_true(process.run { process.program(), "cert", "--out", dir, "localhost" })
   end)

   before_each(function()
      server = process.start({ "-e", SERVER:format(dir) }, { preload = dir .. "/shim.so" })
   end)

   after_each(function()
      server:stop()
   end)

   teardown(function()
      files.remove(dir)
   end)

   it("delays a long message, and does not stop it", function()
      local client = assert(socket.connect("127.0.0.1", server:wait_port()))
      client:settimeout(20)
      assert(client:send("USER joe\r\nPASS secret\r\nRETR 1\r\nQUIT\r\n"))
      local text, err, part = client:receive("*a")
      client:close()
      assert.is_nil(err, ("it stopped after %d octets"):format(#(text or part)))
      assert.equal("+OK bye\r\n", text:sub(-9))
      assert.is_true(#text > 200000 * 78)
   end)

   it("delays a long message over TLS, by STLS and from the start", function()
      local port = server:wait_port()
      local urls = { ("pop3://localhost:%d/1"):format(port), ("pop3s://localhost:%s/1"):format(server:wait_port()) }
      for _, url in ipairs(urls) do
         local ok, text = process.run {
            "curl", "-sS", "-m", "20", "--ssl-reqd", "--cacert", dir .. "/cert.pem", "-u", "joe:secret", url,
         }
         assert.is_true(ok, text:sub(1, 200))
         assert.equal(200000 * 78, #text)
      end
   end)
end)
