--- Instructions that the pure parts of the core need for fixed inputs, as callgrind
-- counts them, beside those in bench/instructions.txt.  No noise: a part that needs
-- one in twenty more than it did fails.
--
--     make bench-counts            compares
--     make bench-counts WRITE=1    writes the file anew
local files = require("support.files")

local FILE = "bench/instructions.txt"
local PROGRAM = (os.getenv("POPD_BUILD") or "build") .. "/bench/counts"
local PARTS = { "commands", "dotstuff", "replies", "names" }
local WORSE = 1.05

local function output_of(command)
   local pipe = assert(io.popen(command .. " 2>&1"))
   local text = pipe:read("a")
   assert(pipe:close(), text)
   return text
end

local function count(part)
   local text = output_of(("valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=measured %s %s")
      :format(files.quote(PROGRAM), part))
   assert(tonumber(text:match("made=(%d+)")) > 0, part .. " failed:\n" .. text)
   return assert(tonumber(text:match("Collected : (%d+)")), text)
end

-- What the counts depend on besides the code.
local function compiler()
   return output_of("gcc --version"):match("[^\n]+")
end

local function counts()
   local all = {}
   for _, part in ipairs(PARTS) do
      all[part] = count(part)
   end
   return all
end

local function write(now)
   local lines = { "# Instructions by callgrind; `make bench-counts WRITE=1` writes them.", "compiler " .. compiler() }
   for _, part in ipairs(PARTS) do
      lines[#lines + 1] = ("%s %d"):format(part, now[part])
   end
   files.put(FILE, table.concat(lines, "\n") .. "\n")
   print("written: " .. FILE)
end

-- Prints each part's ratio.  Returns whether none is worse.
local function compare(now, text)
   local good = true
   for _, part in ipairs(PARTS) do
      local before = assert(tonumber(text:match("\n" .. part .. " (%d+)")), part .. " is not in " .. FILE)
      local ratio = now[part] / before
      print(("%-10s %10d instructions, %.3f of %d%s"):format(part, now[part], ratio, before,
         ratio > WORSE and ": WORSE" or ""))
      good = good and ratio <= WORSE
   end
   return good
end

local now = counts()
if arg[1] == "write" then
   return write(now)
end
local text = files.text(FILE)
local good = compare(now, text)
if not text:find("compiler " .. compiler(), 1, true) then
   print("not held against " .. FILE .. ", which another compiler's are: " .. text:match("compiler ([^\n]+)"))
elseif not good then
   os.exit(1)
end
