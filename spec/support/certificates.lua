--- Certificates for specs, made anew each time by openssl.
local files = require("support.files")

local certificates = {}

local KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 2"

local function openssl(command, ...)
   files.run("openssl " .. command .. " 2>/dev/null", ...)
end

--- Makes `name`.pem and `name`.key of an authority of its own.
function certificates.authority(dir, name)
   local path = dir .. "/" .. name
   openssl("req -x509 " .. KEY .. " -addext keyUsage=critical,keyCertSign,cRLSign -subj %s -keyout %s -out %s",
      "/CN=Authority " .. name, path .. ".key", path .. ".pem")
end

--- Makes `name`.pem and `name`.key, vouched for by the authority `by`.
-- @string dir
-- @string name
-- @string by
-- @string subject such as "/CN=joe"
-- @string names such as "DNS:localhost,IP:127.0.0.1"
function certificates.make(dir, name, by, subject, names)
   local path, authority = dir .. "/" .. name, dir .. "/" .. by
   local extensions = files.put(path .. ".ext", "basicConstraints=CA:FALSE\n"
      .. "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName=" .. names .. "\n")
   openssl("req " .. KEY .. " -subj %s -keyout %s -out %s", subject, path .. ".key", path .. ".csr")
   openssl("x509 -req -days 2 -sha256 -CAcreateserial -CA %s -CAkey %s -in %s -extfile %s -out %s",
      authority .. ".pem", authority .. ".key", path .. ".csr", extensions, path .. ".pem")
end

--- What clients' specs need: server.pem of 127.0.0.1 and localhost, joe.pem and
-- eve.pem of clients, all by ca.pem; stranger.pem vouched for none of them.
function certificates.site(dir)
   certificates.authority(dir, "ca")
   certificates.authority(dir, "stranger")
   certificates.make(dir, "server", "ca", "/CN=localhost", "DNS:localhost,IP:127.0.0.1")
   certificates.make(dir, "joe", "ca", "/CN=joe", "email:joe@example.org")
   certificates.make(dir, "eve", "ca", "/CN=eve", "email:eve@example.org")
end

return certificates
