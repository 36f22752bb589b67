local handle = require("popd.handle")
local popd = require("popd")

local function all(h)
   local pull, close = handle.pull(h)
   if not pull then
      return nil, close
   end
   local chunks = {}
   for chunk in pull do
      chunks[#chunks + 1] = chunk
   end
   if close then
      close()
   end
   return table.concat(chunks)
end

local function object(text)
   local closed = 0
   return {
      read = function(_, n)
         local piece = text:sub(1, n)
         text = text:sub(n + 1)
         return piece ~= "" and piece or nil
      end,
      close = function() closed = closed + 1 end,
      closed = function() return closed end,
   }
end

local function file_of(text)
   local file = assert(io.tmpfile())
   file:write(text)
   file:seek("set")
   return file
end

local TEXT = "Subject: x\n\n.dot\r\nend"

local kinds = {
   ["a string"] = function() return TEXT end,
   ["a function"] = function()
      local i = 0
      return function()
         i = i + 1
         return i <= #TEXT and TEXT:sub(i, i) or nil
      end
   end,
   ["an object"] = function() return object(TEXT) end,
   ["a file"] = function() return file_of(TEXT) end,
   ["a composed one"] = function() return { headers = { { "Subject", "x" } }, body = ".dot\r\nend" } end,
}

describe("popd.octets", function()
   for what, make in pairs(kinds) do
      it("counts what is sent of " .. what, function()
         assert.equal(12 + 2 + 6 + 5, popd.octets(make()))
      end)
   end

   it("closes an object, also one that fails", function()
      local o = object("x")
      popd.octets(o)
      assert.equal(1, o.closed())
      o = object("x")
      o.read = function() error("kaboom") end
      assert.is_nil((popd.octets(o)))
      assert.equal(1, o.closed())
   end)

   it("closes a file", function()
      local file = file_of("x")
      popd.octets(file)
      assert.equal("closed file", io.type(file))
   end)

   for what, h in pairs {
      ["a number"] = 5, ["a boolean"] = true, ["an empty table"] = {},
         ["a file that is not there"] = { path = "/nonexistent/x" },
      ["a function that fails"] = function() return nil, "kaboom" end,
      ["a function that raises"] = function() error("kaboom") end,
      ["a function that returns a number"] = function() return 5 end,
      ["a composed one with a bad body"] = { headers = {}, body = 5 },
   } do
      it("of " .. what .. " is nil and the reason", function()
         local n, why = popd.octets(h)
         assert.is_nil(n)
         assert.equal("string", type(why))
      end)
   end

   it("of a composed one with a line end in a value is no number", function()
      local ok, n = pcall(popd.octets, { headers = { A = "b\nc" } })
      assert.is_true(not ok or n == nil)
   end)

   it("of nothing is nil and the reason", function()
      local n, why = popd.octets(nil)
      assert.is_nil(n)
      assert.equal("string", type(why))
   end)
end)

describe("a handle that is pulled", function()
   for what, make in pairs(kinds) do
      it("gives the bytes of " .. what, function()
         local expected = what == "a composed one" and "Subject: x\r\n\r\n.dot\r\nend" or TEXT
         assert.equal(expected, all(make()))
      end)
   end

   it("has the same digest whatever its kind, and another for other content", function()
      local digest = handle.digest(TEXT)
      assert.truthy(digest:find("^%x+$") and #digest <= 70)
      for what, make in pairs(kinds) do
         if what ~= "a composed one" then
            assert.equal(digest, handle.digest(make()))
         end
      end
      assert.not_equal(digest, handle.digest(TEXT .. "!"))
   end)
end)
