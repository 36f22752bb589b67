--- HTTP requests, for callbacks: `popd.http`.
--
-- HTTP/1.1 (RFC 9112) over `popd.socket`: one call, one answer, its body as a
-- string.  Connections are kept for the next request to the same place.
-- @module popd.http
local core = require("popd.core")
local socket = require("popd.socket")
local ssl = require("popd.ssl")
local use = require("popd.use")

local PIECE = 16384
local HEAD_MAX = 65536 -- octets of a status line and header fields
local LINE_MAX = 8192 -- of a chunk's size line
local KEEP = 8 -- connections to one place that wait for the next request
local IDLE = 15 -- seconds after which they are closed
local SAFE = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true }
local MOVED = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- URLs --------------------------------------------------------------------------

local ports = { http = 80, https = 443 }

local function unescape(text)
   return (text:gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
   end))
end

local function split_authority(authority)
   local user, place = authority:match("^(.*)@(.-)$")
   place = place or authority
   local host, port = place:match("^%[([%x:%.]+)%]:?(%d*)$")
   if not host then
      host, port = place:match("^([%w%._%-]+):?(%d*)$")
   end
   return host, port ~= "" and math.tointeger(tonumber(port)) or nil, user
end

-- Its parts, or nil and why.  A password in it is in no error's text.
local function parse(url)
   local scheme, authority, rest = url:match("^(%a+)://([^/?#]*)([^#]*)")
   scheme = scheme and scheme:lower()
   if not ports[scheme] then
      return nil, "the URL does not begin with http:// or https://"
   elseif rest:find("[%c ]") then
      return nil, "the URL holds a blank or a control octet"
   end
   local host, port, user = split_authority(authority)
   if not host or port and port > 65535 then
      return nil, "the URL has no host, or a port that is none"
   end
   return {
      scheme = scheme, host = host, port = port or ports[scheme], user = user and unescape(user),
      path = rest:sub(1, 1) == "/" and rest or "/" .. rest, default = port == nil or port == ports[scheme],
   }
end

local function place_of(target)
   local host = target.host:find(":", 1, true) and "[" .. target.host .. "]" or target.host
   return target.default and host or ("%s:%d"):format(host, target.port)
end

-- Where a redirect leads to, as an absolute URL.
local function resolve(target, location)
   if location:find("^%a+://") then
      return location
   elseif location:sub(1, 2) == "//" then
      return target.scheme .. ":" .. location
   end
   local base = ("%s://%s"):format(target.scheme, place_of(target))
   if location:sub(1, 1) == "/" then
      return base .. location
   end
   return base .. target.path:gsub("%?.*", ""):match("^(.*/)") .. location
end

-- Requests -----------------------------------------------------------------------

local function check_field(name, value)
   if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+%-.^_`|~]+$") then
      error(("popd.http: %q is no header field's name"):format(tostring(name)), 6)
   elseif type(value) ~= "string" and type(value) ~= "number" then
      error(("popd.http: the header field %s is a %s, a text expected"):format(name, type(value)), 6)
   elseif tostring(value):find("[\r\n\0]") then
      error(("popd.http: the header field %s holds a line end or NUL"):format(name), 6)
   end
end

-- How long a request is decides where the next one begins.
local function check_framing(name, value, body)
   local lower = name:lower()
   if lower == "transfer-encoding" then
      error("popd.http: the body is sent by its length; there is no Transfer-Encoding", 6)
   elseif lower == "content-length" and tonumber(value) ~= #(body or "") then
      error("popd.http: the header field Content-Length is not the body's length", 6)
   end
end

-- Calls f with each name and value; a value may be an array.
local function each_field(headers, f, ...)
   for name, value in pairs(headers) do
      for _, one in ipairs(type(value) == "table" and value or { value }) do
         f(name, one, ...)
      end
   end
end

local function compose(target, request)
   local lines, seen = { ("%s %s HTTP/1.1"):format(request.method, target.path) }, {}
   each_field(request.headers, function(name, value)
      seen[name:lower()] = true
      lines[#lines + 1] = name .. ": " .. value
   end)
   if not seen.host then
      table.insert(lines, 2, "Host: " .. place_of(target))
   end
   if target.user and not seen.authorization then
      lines[#lines + 1] = "Authorization: Basic " .. core.base64(target.user)
   end
   if not seen["content-length"] and (request.body or request.method == "POST" or request.method == "PUT") then
      lines[#lines + 1] = "Content-Length: " .. #(request.body or "")
   end
   return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (request.body or "")
end

-- Answers ------------------------------------------------------------------------

-- Input of one answer: what was read and not used yet.
local Input = {}
Input.__index = Input

local function fail(why)
   error({ http = why }, 0)
end

function Input:left()
   local seconds = self.deadline - core.now()
   if seconds <= 0 then
      fail("timeout")
   end
   return seconds
end

-- More octets; false at the end.
function Input:fill()
   self.sock:settimeout(self:left())
   local piece, why = self.sock:read(PIECE)
   if why then
      fail(why)
   elseif not piece then
      return false
   end
   self.any = true
   self.buffer = self.buffer .. piece
   return true
end

function Input:line(most, too_long)
   while true do
      local at = self.buffer:find("\n", 1, true)
      if at and at <= most then
         local line = self.buffer:sub(1, at - 1):gsub("\r$", "")
         self.buffer = self.buffer:sub(at + 1)
         return line, at
      elseif at or #self.buffer > most then
         fail(too_long or ("a line of the answer is longer than %d octets"):format(most))
      elseif not self:fill() then
         fail(self.any and "the answer ends in the middle" or "closed")
      end
   end
end

-- The line end behind a chunk.
function Input:line_end()
   while self.buffer == "" or self.buffer == "\r" do
      if not self:fill() then
         fail("the answer ends in the middle")
      end
   end
   local behind = self.buffer:match("^\r?\n()")
   self.buffer = self.buffer:sub(behind or fail("the answer has a chunk of another size than it told"))
end

-- n octets into a list of parts.
function Input:octets(n, parts)
   while n > 0 do
      if self.buffer == "" and not self:fill() then
         fail("the answer ends in the middle")
      end
      local piece = self.buffer:sub(1, n)
      self.buffer = self.buffer:sub(#piece + 1)
      parts[#parts + 1] = piece
      n = n - #piece
   end
end

local function read_fields(input)
   local headers, room = {}, HEAD_MAX
   local too_long = ("the answer's header fields are longer than %d octets"):format(HEAD_MAX)
   while true do
      local line, n = input:line(room, too_long)
      room = room - n
      if line == "" then
         return headers
      end
      local name, value = line:match("^([^%s:]+):%s*(.*)$")
      if not name then
         fail("the answer has a header field that is none")
      end
      name, value = name:lower(), value:match("^.*%S") or "" -- not "(.-)%s*$", which looks again at each blank
      headers[name] = headers[name] and headers[name] .. ", " .. value or value
   end
end

local function read_head(input)
   while true do
      local line = input:line(HEAD_MAX)
      local version, status, reason = line:match("^HTTP/1%.(%d) (%d%d%d)(.*)$")
      if not version or reason:find("^[^ ]") then
         fail("the answer is no HTTP")
      end
      local headers = read_fields(input)
      if status:sub(1, 1) ~= "1" then
         return { status = math.tointeger(tonumber(status)), reason = reason:sub(2), headers = headers }, version ~= "0"
      end
   end
end

local function check_length(n, max)
   if n > max then
      fail(("the answer is longer than %d octets (max)"):format(max))
   end
end

local function read_chunks(input, max)
   local parts, sum = {}, 0
   while true do
      local line = input:line(LINE_MAX)
      local hex = line:match("^0*(%x+)[ \t]*$") or line:match("^0*(%x+)[ \t]*;")
      if not hex or #hex > 15 then
         fail("the answer has a chunk without a size, or one that is too large")
      end
      local size = tonumber(hex, 16)
      sum = sum + size
      check_length(sum, max)
      if size == 0 then
         read_fields(input)
         return parts
      end
      input:octets(size, parts)
      input:line_end()
   end
end

local function read_rest(input, max)
   local parts, sum = {}, 0
   repeat
      sum = sum + #input.buffer
      check_length(sum, max)
      parts[#parts + 1] = input.buffer
      input.buffer = ""
   until not input:fill()
   return parts
end

-- A list of equal lengths is one (RFC 9110, section 8.6).
local function length_of(headers)
   local told = headers["content-length"]
   if not told then
      return nil
   end
   local first = told:match("^[^,%s]*")
   for one in told:gmatch("[^,%s]+") do
      if one ~= first then
         fail("the answer tells two lengths")
      end
   end
   return first:find("^%d+$") and math.tointeger(tonumber(first)) or fail("the answer's length is no number")
end

-- Its body, and whether the connection may serve again (RFC 9112, section 6.3).
local function read_body(input, method, answer, max)
   local headers = answer.headers
   if method == "HEAD" or answer.status == 204 or answer.status == 304 then
      return "", true
   end
   local coding = headers["transfer-encoding"]
   if coding and coding:lower() ~= "chunked" then
      fail(("the answer is encoded in a way that is not known here (%s)"):format(coding))
   elseif coding then
      return table.concat(read_chunks(input, max)), headers["content-length"] == nil
   end
   local length = length_of(headers)
   if not length then
      return table.concat(read_rest(input, max)), false
   end
   check_length(length, max)
   local parts = {}
   input:octets(length, parts)
   return table.concat(parts), true
end

-- Connections ----------------------------------------------------------------------

local kept = {} -- by place, those that wait for the next request
local sweeping

local function key_of(target, options)
   return table.concat({ target.scheme, target.host, target.port, tostring(options.verify), options.ca or "" }, "\0")
end

-- Closes those that were not used for a while.
local function sweep()
   sweeping = nil
   local old = core.now() - IDLE
   for key, list in pairs(kept) do
      while list[1] and list[1].since <= old do
         table.remove(list, 1).sock:close()
      end
      kept[key] = list[1] and list or nil
   end
   if next(kept) then
      sweeping = core.later(IDLE, sweep)
   end
end

local function keep(key, sock)
   local list = kept[key] or {}
   kept[key] = list
   list[#list + 1] = { sock = sock, since = core.now() }
   if #list > KEEP then
      table.remove(list, 1).sock:close()
   end
   sweeping = sweeping or core.later(IDLE, sweep)
end

-- One that was kept and that the other side has not closed meanwhile.
local function take(key)
   local list = kept[key]
   while list and list[1] do
      local sock = table.remove(list).sock
      if not sock:dirty() then
         return sock
      end
      sock:close()
   end
end

local function connect(target, options, deadline)
   local sock = socket.tcp()
   sock:settimeout(math.max(deadline - core.now(), 0), "t")
   local ok, why = sock:connect(target.host, target.port)
   if ok and target.scheme == "https" then
      ok, why = ssl.wrap(sock, { verify = options.verify == false and "none" or "peer", cafile = options.ca })
      sock:settimeout(math.max(deadline - core.now(), 0), "t")
      if ok then
         ok, why = sock:dohandshake()
      end
   end
   if not ok then
      sock:close()
      return nil, why
   end
   return sock
end

-- One try over a connection: the answer; or nil, why, and whether nothing came at all.
local function exchange(sock, request, deadline)
   local input = setmetatable({ sock = sock, deadline = deadline, buffer = "" }, Input)
   local ok, answer = pcall(function()
      sock:settimeout(nil, "t")
      sock:settimeout(input:left())
      local sent, why = sock:send(request.octets)
      if not sent and why ~= "closed" then
         fail(why)
      end
      -- A server may answer, and close, before it has read all.
      local found, lasts = read_head(input)
      local whole
      found.body, whole = read_body(input, request.method, found, request.max)
      local word = (found.headers.connection or ""):lower()
      found.lasts = sent and whole and input.buffer == "" and not word:find("close", 1, true)
         and (lasts or word:find("keep-alive", 1, true) ~= nil)
      return found
   end)
   if ok then
      return answer
   end
   sock:close()
   if type(answer) == "table" and answer.http then
      return nil, answer.http, not input.any and answer.http == "closed"
   end
   error(answer, 0)
end

local function run(target, request, deadline)
   local key = key_of(target, request)
   request.octets = compose(target, request)
   while true do
      local sock, why = take(key), nil
      local old = sock ~= nil
      if not sock then
         sock, why = connect(target, request, deadline)
      end
      if not sock then
         return nil, why
      end
      local answer, unread
      answer, why, unread = exchange(sock, request, deadline)
      if answer then
         if answer.lasts then
            keep(key, sock)
         else
            sock:close()
         end
         answer.lasts = nil
         return answer
      elseif not (old and unread and SAFE[request.method]) then
         return nil, why
      end
   end
end

-- The request ------------------------------------------------------------------------

local known = {
   method = "string", headers = "table", body = "string", timeout = "number", ca = "string", verify = "boolean",
   max = "number", redirects = "number",
}

local function check(url, options)
   if type(url) ~= "string" then
      error(("popd.http: a URL (a string) expected, got a %s"):format(type(url)), 3)
   elseif type(options) ~= "table" then
      error("popd.http: options are a table", 3)
   end
   for name, value in pairs(options) do
      if not known[name] then
         error(("popd.http: unknown option '%s'; there are: body, ca, headers, max, method, redirects, timeout, verify")
            :format(tostring(name)), 3)
      elseif type(value) ~= known[name] then
         error(("popd.http: option '%s' takes a %s"):format(name, known[name]), 3)
      end
   end
   if options.method and not options.method:find("^%u+$") then
      error("popd.http: a method is of capital letters", 3)
   end
   each_field(options.headers or {}, function(name, value)
      check_field(name, value)
      check_framing(name, value, options.body)
   end)
end

-- A request that is redirected elsewhere takes no secrets along.
local SECRETS = { authorization = true, cookie = true, ["proxy-authorization"] = true, host = true }

-- What a body's header fields are called.
local BODY = { ["content-length"] = true, ["content-type"] = true, ["content-encoding"] = true }

local function without(set, headers)
   local left = {}
   for name, value in pairs(headers) do
      left[name] = not set[name:lower()] and value or nil
   end
   return left
end

local function redirected(target, request, answer)
   local to = answer.headers.location
   local new, why = parse(resolve(target, to))
   if not new then
      return nil, "a redirect leads nowhere: " .. why
   elseif target.scheme == "https" and new.scheme == "http" then
      return nil, "a redirect leads from https to http"
   end
   if new.host ~= target.host or new.port ~= target.port or new.scheme ~= target.scheme then
      request.headers = without(SECRETS, request.headers)
   else
      new.user = new.user or target.user
   end
   if answer.status == 303 or answer.status < 303 and request.method == "POST" then
      request.method, request.body = request.method == "HEAD" and "HEAD" or "GET", nil
      request.headers = without(BODY, request.headers)
   end
   return new
end

local function told(target, why)
   return nil, ("%s://%s: %s"):format(target.scheme, place_of(target), why)
end

-- Follows redirects; what it returns is popd.http's.
local function request_all(target, request, options)
   local deadline = core.now() + (options.timeout or 30)
   for left = options.redirects or 0, 0, -1 do
      local answer, why = run(target, request, deadline)
      if not answer then
         return told(target, why)
      elseif left < 1 or not (MOVED[answer.status] and answer.headers.location) then
         return answer
      end
      local new
      new, why = redirected(target, request, answer)
      if not new then
         return told(target, why)
      end
      target = new
   end
end

--- Makes a request and waits for its answer.
-- @string url `http://…` or `https://…`, with `user:password@` for Basic authentication
-- @tparam[opt] table options
--
--   * `method` = `"GET"`, or `"POST"` where there is a body
--   * `headers`: a table of names and values; a value may be an array
--   * `body`: a string (JSON, say)
--   * `timeout` = 30: seconds in all
--   * `max` = 10485760: octets of the answer's body; a longer one is a failure
--   * `redirects` = 0: how many are followed
--   * `verify` = true: the server's certificate is verified
--   * `ca`: a PEM file of whom to trust, in place of the system's authorities
-- @treturn table `{ status =, reason =, headers =, body = }` whatever the status, headers by their names in lower
-- case. Or nil and the reason: no connection, no answer, a broken one
-- @usage
-- local answer, why = popd.http("https://auth.example.org/check", { body = '{"user":"joe"}',
--    headers = { ["Content-Type"] = "application/json" } })
-- if answer and answer.status == 200 then … end
local function http(url, options)
   options = options or {}
   check(url, options)
   local target, why = parse(url)
   if not target then
      return nil, why
   end
   local request = {
      method = options.method or options.body and "POST" or "GET", headers = options.headers or {}, body = options.body,
      max = options.max or 10485760, verify = options.verify ~= false, ca = options.ca,
   }
   return use.run(request_all, target, request, options)
end

return http
