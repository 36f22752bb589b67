-- What `make run` serves: a Maildir of a few messages made on the spot, for the
-- user demo with the password demo, on this machine only.  Where DIRECTORY holds
-- a certificate, made by `popd-lua cert --out DIRECTORY localhost 127.0.0.1`, TLS
-- is there too: by STLS, and from the start on the port after PORT.
--
--     popd-lua examples/demo.lua DIRECTORY [PORT]
local popd = require("popd")
local maildir = require("popd.maildir")
local fs = popd.fs

local root, port = arg[1] or "demo", math.tointeger(tonumber(arg[2] or 1100))
if not port then
   io.stderr:write("demo: '", arg[2], "' is not a port\n")
   os.exit(2)
end

local messages = {
   "From: Ann <ann@example.org>\nTo: demo@example.org\nSubject: Welcome\n\nThis mail was made for the demo.\n",
   "From: Joe <joe@example.org>\nTo: demo@example.org\nSubject: Dots\n\n.a line that starts with a dot\n.\nthe end\n",
   "From: Eva <eva@example.org>\nTo: demo@example.org\nSubject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?=\n"
      .. "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
      .. "Viele Grüße aus Köln, Übermorgen mehr.\n",
   "From: List <list@example.org>\nTo: demo@example.org\nSubject: No line end at the end\n\nthe last line is open",
   "From: Log <log@example.org>\r\nTo: demo@example.org\r\nSubject: Stored with CRLF\r\n\r\none\r\ntwo\r\n",
}

local function ensure(dir)
   local ok, err = fs.mkdir(dir, 448)
   if not ok and not fs.stat(dir) then
      error(err, 0)
   end
end

-- Only what is not there is made: what you deleted comes back at the next start,
-- what you put there stays.
local function deliver(dir, number, text)
   local name = ("1700000%03d.demo%d.example"):format(number, number)
   if not fs.stat(dir .. "/new/" .. name) then
      assert(fs.write(dir .. "/new/" .. name, text, 384))
   end
end

ensure(root)
for _, sub in ipairs { "", "/cur", "/new", "/tmp" } do
   ensure(root .. "/demo" .. sub)
end
for number, text in ipairs(messages) do
   deliver(root .. "/demo", number, text)
end

local cert, key = root .. "/cert.pem", root .. "/key.pem"
local has_cert = fs.stat(cert) ~= nil

local server = popd.new("demo", {
   port = port,
   address = "127.0.0.1",
   tls = has_cert and { cert = cert, key = key } or nil,
   auth = {
      lookup = function(name)
         if name == "demo" then
            return "{PLAIN}demo", "demo"
         end
      end,
   },
   storage = maildir.new { root = root .. "/%s" },
})

local tls = has_cert and server:listen { port = port == 0 and 0 or port + 1, address = "127.0.0.1", tls = "implicit" }

server:up()
port = server:cget("port")
print(([[
%d messages wait for user demo, password demo, on port %d.  In another terminal:

    curl pop3://demo:demo@127.0.0.1:%d/       # lists them
    curl pop3://demo:demo@127.0.0.1:%d/1      # fetches the first
]]):format(#messages, port, port, port))
if tls then
   print(([[
Encrypted, by STLS and from the start (port %d):

    curl --cacert %s --ssl-reqd pop3://demo:demo@localhost:%d/1
    curl --cacert %s pop3s://demo:demo@localhost:%d/1
]]):format(tls.port, cert, port, cert, tls.port))
end
print("Ctrl-C ends the server.")
io.stdout:flush()
popd.run()
