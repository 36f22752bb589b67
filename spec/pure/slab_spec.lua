local slab = require("popd.testing").slab

-- Under AddressSanitizer all blocks are malloc's.
local has_pages = not (os.getenv("POPD_BUILD") or ""):find("asan$")

-- Where sizes change, and where blocks become malloc's.
local sizes = { 1, 7, 8, 9, 56, 511, 512, 513, 640, 641, 1024, 3071, 3072, 3073, 100000 }

describe("slab", function()
   it("keeps what is in a block when that grows or shrinks, to each size from each", function()
      local blocks = slab.new()
      for _, from in ipairs(sizes) do
         for _, to in ipairs(sizes) do
            assert.is_true(blocks:set(1, from))
            assert.is_true(blocks:set(1, to), ("%d to %d"):format(from, to))
            assert.is_true(blocks:set(1, 0))
         end
      end
   end)

   it("gives no block's octets to another, in whatever order they come and go", function()
      math.randomseed(1939)
      local blocks = slab.new()
      for round = 1, 100000 do
         local size = math.random() < 0.4 and 0 or sizes[math.random(#sizes - 1)] + math.random(0, 40)
         assert.is_true(blocks:set(math.random(0, 999), size))
         if round % 5000 == 0 then
            blocks:trim()
         end
      end
   end)

   it("gives pages back that nothing is left in, and takes them anew", function()
      local blocks, pages = slab.new(), has_pages and 1000 // 5 or 0
      for _ = 1, 3 do
         for i = 0, 999 do
            assert.is_true(blocks:set(i, 3000))
         end
         assert.equal(0, blocks:trim())
         for i = 1, 999 do
            assert.is_true(blocks:set(i, 0))
         end
         assert.equal(math.max(0, pages - 1), blocks:trim())
         assert.is_true(blocks:set(0, 0))
         assert.equal(math.min(1, pages), blocks:trim())
      end
   end)
end)
