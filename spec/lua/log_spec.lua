local core = require("popd.core")
local popd = require("popd")

describe("the log", function()
   local lines

   before_each(function()
      lines = {}
      popd.log_to(function(level, line) lines[#lines + 1] = level .. " " .. line:gsub("^%S+ %S+ ", "") end, "debug")
   end)

   after_each(function()
      popd.log_to(nil, "warning")
   end)

   -- text, fields, the line behind time and level
   local cases = {
      { "plain", nil, "plain" },
      { "two words", nil, '"two words"' },
      { "", nil, '""' },
      { "a\nforged line", nil, [["a\nforged line"]] },
      { "a\r\0\27[1m", nil, [["a\x0d\x00\x1b[1m"]] },
      { 'say "x" \\', nil, [["say \"x\" \\"]] },
      { "x", { b = "2", a = 1 }, "x a=1 b=2" },
      { "x", { k = "a=b" }, 'x k="a=b"' },
      { "x", { ["k\nforged"] = "v", ["a b"] = "w" }, "x a_b=w k_forged=v" },
      { "grün", nil, "grün" },
   }
   for _, case in ipairs(cases) do
      it(("writes %q on one line"):format(case[1]), function()
         popd.log("info", case[1], case[2])
         assert.same({ "info " .. case[3] }, lines)
      end)
   end

   it("drops what is below its level", function()
      popd.log_to(function(_, line) lines[#lines + 1] = line end, "error")
      popd.log("warning", "x")
      assert.same({}, lines)
   end)

   it("tells what it would drop", function()
      popd.log_to(nil, "warning")
      local wanted = {}
      for i, level in ipairs { "debug", "info", "warning", "error" } do
         wanted[i] = core.log_wants(level)
      end
      assert.same({ false, false, true, true }, wanted)
   end)

   it("refuses a level that it does not know", function()
      local ok, err = pcall(popd.log, "loud", "x")
      assert.is_false(ok)
      assert.truthy(err:find("debug, info, warning, error", 1, true))
   end)

   it("goes on with its function after that logged something itself", function()
      local seen = 0
      popd.log_to(function()
         seen = seen + 1
         popd.log("debug", "from inside") -- to standard error, were it not below this level
      end, "info")
      popd.log("info", "one")
      popd.log("info", "two")
      assert.equal(2, seen)
   end)
end)
