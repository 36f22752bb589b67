local files = require("spec.support.files")
local options = require("popd.options")
local program = require("spec.support.program")

local guide = files.text("docs/guide.md")

describe("the guide's table of options", function()
   -- The names, as a mistake tells them.
   local _, told = pcall(options.check_name, "no such option", 1)
   local names = {}
   for name in told:match("there are: (.*)$"):gmatch("[%w_]+") do
      names[#names + 1] = name
   end

   for _, name in ipairs(names) do
      it("has " .. name, function()
         assert.is_truthy(guide:find("\n| `" .. name .. "` |", 1, true))
      end)
   end

   for name, value in pairs(options.defaults()) do
      if type(value) ~= "table" and value ~= 1e8 then
         it("tells the default of " .. name, function()
            local row = guide:match("\n| `" .. name .. "` | ([^|]+) |")
            assert.equal(type(value) == "string" and ('"%s"'):format(value) or tostring(value), (row:gsub("`", "")))
         end)
      end
   end
end)

describe("the program's flags", function()
   local _, usage = program.run(program.popd_lua(), "--help")
   local man = files.text("docs/popd-lua.1"):gsub("\\%-", "-")

   for flag in usage:gmatch("\n  (%-%-?[%w-]+)") do
      it("are in the guide: " .. flag, function()
         assert.is_truthy(guide:find("`" .. flag, 1, true))
      end)

      it("are in the manual page: " .. flag, function()
         assert.is_truthy(man:find(flag, 1, true))
      end)
   end
end)

describe("a link of the documents", function()
   local documents = {
      "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
      "docs/guide.md", "docs/DESIGN.md", "docs/INTERNALS.md",
      "docs/tls.md", "docs/clients.md", "docs/performance.md",
   }

   -- How a heading is linked to.
   local function anchors(text)
      local found = {}
      for heading in text:gmatch("\n#+ ([^\n]+)") do
         found[heading:lower():gsub("[^%w%- ]", ""):gsub(" ", "-")] = true
      end
      return found
   end

   for _, document in ipairs(documents) do
      it("leads somewhere in " .. document, function()
         local text = files.text(document)
         for target in text:gmatch("%]%(([^)]+)%)") do
            local file, anchor = target:match("^([^#]*)#?(.*)$")
            local path = file == "" and document or (document:match("^docs/") or "") .. file
            assert.is_true(files.exists(path), target)
            assert.is_true(anchor == "" or anchors(files.text(path))[anchor] == true, target)
         end
      end)
   end
end)
