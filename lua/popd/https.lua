--- `ssl.https` for libraries that `popd.require` loads: LuaSocket's HTTP over
-- popd's TLS.  Other than LuaSec's it verifies certificates unless the request says
-- `verify = "none"`.
-- @module popd.https
local ssl = require("popd.ssl")

-- A connection as LuaSocket's http wants one: TLS comes with connecting.
local function connector(socket, params)
   return function()
      local conn = socket.tcp()
      local connect = conn.connect
      function conn:connect(host, port)
         local ok, why = connect(self, host, port)
         if not ok then
            return nil, why
         end
         ok, why = ssl.wrap(self, params)
         if ok then
            ok, why = self:dohandshake()
         end
         return ok and 1, why
      end
      return conn
   end
end

local names = { "verify", "cafile", "certificate", "key", "protocol" }

local function parameters(request)
   local params = {}
   for _, name in ipairs(names) do
      params[name] = type(request) == "table" and request[name] or nil
   end
   return params
end

-- `load` is the library's require.
return function(load)
   local socket, http, ltn12 = load("socket"), load("socket.http"), load("ltn12")
   local https = { PORT = 443, TIMEOUT = 60 }

   function https.tcp(request)
      return connector(socket, parameters(request))
   end

   local function as_table(url, body, sink)
      local request = { url = url, method = body and "POST" or "GET", sink = ltn12.sink.table(sink) }
      if body then
         request.source = ltn12.source.string(body)
         request.headers = {
            ["content-length"] = #body, ["content-type"] = "application/x-www-form-urlencoded",
         }
      end
      return request
   end

   --- As LuaSocket's `http.request`, for `https:` URLs.
   function https.request(url, body)
      local parts, request = {}, url
      if type(url) == "string" then
         request = as_table(url, body, parts)
      end
      request.create = https.tcp(request)
      request.url = load("socket.url").build(load("socket.url").parse(request.url, { port = tostring(https.PORT) }))
      local ok, code, headers, status = http.request(request)
      return ok and type(url) == "string" and table.concat(parts) or ok, code, headers, status
   end

   return https
end
