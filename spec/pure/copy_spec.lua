local copy = require("popd.testing").copy

local function nest(depth)
   local top = {}
   for _ = 2, depth do
      top = { top }
   end
   return top
end

describe("a copy of values", function()
   local shared = { "shared" }

   for what, values in pairs {
      ["nothing"] = {},
      ["nil among others"] = { nil, 1, nil, n = 4 },
      ["booleans"] = { true, false },
      ["integers"] = { 0, -1, math.maxinteger, math.mininteger },
      ["floats"] = { 0.5, -0.0, math.huge, -math.huge, 2.0 ^ 53 },
      ["strings"] = { "", "a\0b", ("x"):rep(100000), "\xff\r\n" },
      ["tables"] = { {}, { 1, 2, nil, 4 }, { a = { b = { c = true } }, [1.5] = "half", [false] = 0 } },
      ["a table that is there twice"] = { { shared, shared } },
      ["tables in a hundred"] = { nest(100) },
   } do
      it("has the same: " .. what, function()
         local n = values.n or #values
         local made = table.pack(copy(table.unpack(values, 1, n)))
         assert.equal(n, made.n)
         for i = 1, n do
            assert.same(values[i], made[i])
            assert.equal(math.type(values[i]), math.type(made[i]))
         end
      end)
   end

   it("keeps what is no number one", function()
      local nan = copy(0 / 0)
      assert.is_true(nan ~= nan)
   end)

   it("is another table, without the first one's metatable", function()
      local first = setmetatable({ 1 }, { __index = { inherited = true }, __pairs = error, __len = error })
      local made = copy(first)
      assert.is_true(made ~= first)
      assert.is_nil(getmetatable(made))
      assert.same({ 1 }, made)
   end)

   it("has many values", function()
      local many = {}
      for i = 1, 5000 do
         many[i] = i
      end
      assert.equal(5000, select("#", copy(table.unpack(many))))
   end)

   it("has a big table", function()
      local many = {}
      for i = 1, 100000 do
         many[i] = { i, tostring(i) }
      end
      assert.same(many, copy(many))
   end)

   local cycle = { deep = {} }
   cycle.deep.er = cycle
   local thread = coroutine.create(print)

   for _, case in ipairs {
      { "argument 1: a function cannot be passed", print },
      { "argument 3: a userdata cannot be passed", 1, nil, io.stdout },
      { "argument 1: a thread cannot be passed", thread },
      { "argument 2.x.y: a function cannot be passed", 1, { x = { y = print } } },
      { "argument 1[3]: a function cannot be passed", { 1, 2, print } },
      { 'argument 1["a b"][true].c: a thread cannot be passed', { ["a b"] = { [true] = { c = thread } } } },
      { "argument 1[2.5]: a userdata cannot be passed", { [2.5] = io.stdout } },
      { "argument 1.deep.er: a table that contains itself cannot be passed", cycle },
      { "argument 1.a%[table: [^]]*%]: a key that is neither a string, a number nor a boolean cannot be passed",
         { a = { [{}] = 1 } } },
      { "a table nested so deeply cannot be passed", nest(101) },
   } do
      it("is refused: " .. case[1], function()
         local ok, why = pcall(copy, table.unpack(case, 2, 4))
         assert.is_false(ok)
         assert.truthy(why:find(case[1], 1, not case[1]:find("%%")), why)
         assert.truthy(why:find("to a thread", 1, true), why)
      end)
   end

   it("is refused where small tables would become a huge one", function()
      local top = { ("x"):rep(1000) }
      for _ = 1, 40 do
         top = { top, top }
      end
      local ok, why = pcall(copy, top)
      assert.is_false(ok)
      assert.truthy(why:find("more than 256 MB in one call cannot be passed", 1, true), why)
   end)

   it("says where something is with a text of bounded length", function()
      local ok, why = pcall(copy, { [("k"):rep(100000)] = print })
      assert.is_false(ok)
      assert.is_true(#why < 300)
   end)
end)
