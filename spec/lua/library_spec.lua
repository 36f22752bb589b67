-- popd.require: libraries with popd's sockets, beside those that are loaded already.
local client = require("support.client")
local files = require("support.files")
local popd = require("popd")

describe("popd.require", function()
   local dir, path, before

   local function module(name, text)
      files.put(("%s/%s.lua"):format(dir, name), text)
   end

   before_each(function()
      dir, path, before = files.new_dir(), package.path, {}
      package.path = dir .. "/?.lua;" .. package.path
      for name, value in pairs(package.loaded) do
         before[name] = value
      end
   end)

   after_each(function()
      package.path = path
      files.remove(dir)
      client.finish()
      for name, value in pairs(package.loaded) do
         assert.equal(before[name], value, name)
      end
   end)

   it("gives a library popd's sockets and TLS, and a copy that it may add to", function()
      module("usessocket", [[
         local socket = require("socket")
         socket.added = true
         return { socket = socket, core = require("socket.core"), unix = require("socket.unix"), ssl = require("ssl"),
            https = require("ssl.https"), http = require("socket.http") }
      ]])
      local library = popd.require("usessocket")
      assert.equal(popd.socket.tcp, library.socket.tcp)
      assert.equal(popd.socket.tcp, library.core.tcp)
      assert.equal("unix", library.unix().kind)
      assert.equal("unix", library.unix.stream().kind)
      assert.equal(require("popd.ssl").wrap, library.ssl.wrap)
      assert.equal(library.http, library.socket.http)
      assert.equal(443, library.https.PORT)
      assert.is_nil(popd.socket.added)
      assert.is_nil(popd.socket.http)
      assert.not_equal(require("socket").tcp, library.socket.tcp)
   end)

   it("loads a library once, apart from require's", function()
      module("counted", "return { name = ..., file = select(2, ...) }")
      local mine = popd.require("counted")
      assert.equal(mine, popd.require("counted"))
      assert.same({ name = "counted", file = dir .. "/counted.lua" }, mine)
      assert.is_nil(package.loaded.counted)
      module("inner", "return {}")
      module("outer", "return { inner = require('inner') }")
      assert.equal(popd.require("inner"), popd.require("outer").inner)
   end)

   it("gives the standard libraries and popd itself as they are", function()
      for _, name in ipairs { "string", "table", "coroutine", "_G", "popd", "popd.socket" } do
         assert.equal(require(name), popd.require(name))
      end
   end)

   it("keeps what a library sets as a global from the script", function()
      module("leaky", "leaked = 1; _G.leaked2 = 2; function leak() return leaked end "
         .. "return { get = leak, string = string }")
      local library = popd.require("leaky")
      assert.equal(1, library.get())
      assert.equal(string, library.string)
      assert.is_nil(rawget(_G, "leaked"))
      assert.is_nil(rawget(_G, "leaked2"))
      assert.is_nil(rawget(_G, "leak"))
   end)

   it("prefers its own sockets to preloaded ones", function()
      local preloaded = package.preload["socket.core"]
      package.preload["socket.core"] = function() return "preloaded" end
      local ok, core = pcall(popd.require, "socket.core")
      package.preload["socket.core"] = preloaded
      assert.is_true(ok)
      assert.equal(popd.socket.tcp, core.tcp)
   end)

   it("tells at the caller's line that there is no such library, and where it looked", function()
      local ok, err = pcall(function() popd.require("no.such") end)
      assert.is_false(ok)
      assert.truthy(err:find("^spec/lua/library_spec.lua:%d+: popd.require: module 'no.such' is not found:"),
         err)
      assert.truthy(err:find("no file '" .. dir .. "/no/such.lua'", 1, true), err)
      ok, err = pcall(function() popd.require(1) end)
      assert.is_false(ok)
      assert.truthy(err:find("^spec/lua/library_spec.lua:%d+: popd.require: a module's name expected, got a number"),
         err)
   end)

   it("names the library that needs a missing one", function()
      module("needy", "local x = require('no.such.either') return x")
      local ok, err = pcall(popd.require, "needy")
      assert.is_false(ok)
      assert.truthy(err:find("needy.lua:1: popd.require: module 'no.such.either' is not found", 1, true), err)
   end)

   it("raises what loading raises, and tries again the next time", function()
      module("broken", "error('cannot load')")
      local ok, err = pcall(popd.require, "broken")
      assert.is_false(ok)
      assert.truthy(err:find("cannot load", 1, true))
      module("broken", "return 'works'")
      assert.equal("works", popd.require("broken"))
      module("syntax", "return +")
      ok, err = pcall(popd.require, "syntax")
      assert.is_false(ok)
      assert.truthy(err:find("syntax.lua:1:", 1, true), err)
   end)

   it("works in a callback, whose wait a library's loading may be", function()
      module("waits", "require('socket').sleep(0.001) return 'waited'")
      local got
      popd.spawn(function() got = popd.require("waits") end)
      client.wait_for("the library", function() return got end)
      assert.equal("waited", got)
   end)
end)
