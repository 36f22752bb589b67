--- The command `popd-lua cert`: a key and a certificate that vouches for itself.
-- @module popd.cert
local core = require("popd.core")
local flags = require("popd.flags")
local fs = require("popd.fs")

local cert = {}

local known = {
   ["--out"] = "out", ["--cert"] = "cert", ["--key"] = "key", ["--days"] = "days", ["--force"] = { "force" },
}

-- Apple's clients refuse a server's certificate that is valid for longer.
local DAYS, DAYS_MAX = 825, 36500

local HOSTS_MAX = 100

local CERT_MODE, KEY_MODE = tonumber("644", 8), tonumber("600", 8)

-- Where both go; nil and what is wrong.
local function paths(given)
   if given.out and (given.cert or given.key) then
      return nil, "--out names both files; give it, or --cert and --key"
   elseif (given.cert == nil) ~= (given.key == nil) then
      return nil, "--cert and --key go together"
   elseif given.cert and given.cert == given.key then
      return nil, "--cert and --key are two files"
   end
   if given.out == "" then
      return nil, "--out: a directory expected"
   end
   local dir = given.out and given.out:gsub("(.)/+$", "%1") or "."
   return { cert = given.cert or dir .. "/cert.pem", key = given.key or dir .. "/key.pem" }
end

-- The days and hosts that are asked for; nil and what is wrong.
local function wishes(words, given)
   local days = math.tointeger(tonumber(given.days or DAYS))
   if not days or days < 1 or days > DAYS_MAX then
      return nil, ("--days: a number from 1 to %d expected, got '%s'"):format(DAYS_MAX, given.days)
   end
   local hosts = table.move(words, given.rest, #words, 1, {})
   if not hosts[1] then
      return nil, "cert: which hosts? Give the names or addresses that clients connect to"
   elseif #hosts > HOSTS_MAX then
      return nil, ("cert: %d hosts are more than the %d that one certificate takes"):format(#hosts, HOSTS_MAX)
   end
   return days, hosts
end

-- A name beside the file's that nobody else uses.
local function beside(path)
   return path .. "." .. core.random(8):gsub(".", function(octet)
      return ("%02x"):format(octet:byte())
   end)
end

-- Writes a new file; one that cannot get its mode is removed again.
local function write(path, text, mode)
   local ok, err, code = fs.write(path, text, mode)
   if ok then
      ok, err, code = fs.chmod(path, mode)
      if not ok then
         fs.unlink(path)
      end
   end
   return ok, err, code
end

-- Both as new files, or none.
local function create(to, pair)
   local ok, err, code = write(to.key, pair.key, KEY_MODE)
   if not ok then
      return nil, err, code
   end
   ok, err, code = write(to.cert, pair.cert, CERT_MODE)
   if not ok then
      fs.unlink(to.key)
   end
   return ok, err, code
end

-- Puts the new files in the old ones' places.  The key goes first, and back
-- again if the certificate cannot follow.
local function exchange(new, to, saved)
   local had_key, err, code = fs.link(to.key, saved)
   if not had_key and code ~= "ENOENT" then
      return nil, err
   end
   local ok
   ok, err = fs.rename(new.key, to.key)
   if ok then
      ok, err = fs.rename(new.cert, to.cert)
      if not ok and had_key then
         fs.rename(saved, to.key)
      elseif not ok then
         fs.unlink(to.key)
      end
   end
   fs.unlink(saved)
   return ok, err
end

local function replace(to, pair)
   local new = { cert = beside(to.cert), key = beside(to.key) }
   local ok, err = create(new, pair)
   if ok then
      ok, err = exchange(new, to, beside(to.key))
   end
   if not ok then
      fs.unlink(new.cert)
      fs.unlink(new.key)
   end
   return ok, err
end

--- The SHA-256 of a certificate, as browsers and mail programs show it.
-- @string pem
-- @treturn string such as `"0A:1B:…"`
function cert.fingerprint(pem)
   local der = core.unbase64((pem:match("CERTIFICATE%-%-%-%-%-(.-)%-%-%-%-%-END"):gsub("%s", "")))
   return (core.digest("SHA-256", der):gsub(".", function(octet)
      return ("%02X:"):format(octet:byte())
   end):sub(1, -2))
end

local function tell(to, pair, days)
   io.write("certificate  ", to.cert, "\nkey          ", to.key, "  (keep it secret)\nvalid for    ", days,
      " days\nSHA-256      ", cert.fingerprint(pair.cert), "\n\nServe with it:\n    popd-lua --cert ", to.cert,
      " --key ", to.key, " --tls-port 995 --maildir DIR --users FILE\n",
      "Clients trust it once they have the certificate, or are told the SHA-256.\n")
end

local function failed(text)
   io.stderr:write("popd-lua: ", text, "\n")
   return 1
end

--- Runs the command.
-- @tparam table words its flags and hosts, from 1 on
-- @treturn integer the status to exit with
function cert.main(words)
   local given, wrong = flags.parse(words, 1, known)
   if not given then
      return flags.fail(wrong)
   end
   local to, days, hosts
   to, wrong = paths(given)
   if to then
      days, hosts = wishes(words, given)
      wrong = not days and hosts
   end
   if wrong then
      return flags.fail(wrong)
   end
   local pair = {}
   pair.cert, pair.key = core.certificate(hosts, days)
   if not pair.cert then
      return flags.fail("cert: " .. pair.key)
   end
   local ok, err, code = (given.force and replace or create)(to, pair)
   if not ok then
      return failed(err .. (code == "EEXIST" and "; nothing was written, --force replaces both" or ""))
   end
   tell(to, pair, days)
   return 0
end

return cert
