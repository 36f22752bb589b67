-- Writes the Lua modules named on the command line as C, for the program.
-- lua/popd/init.lua becomes "popd", lua/popd/cli.lua "popd.cli".

local function module_name(path)
   local name = path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
   return name
end

local function write_bytes(index, text)
   io.write(("static const unsigned char text_%d[] = {"):format(index))
   for i = 1, #text do
      io.write(i % 20 == 1 and "\n" or "", text:byte(i), ",")
   end
   io.write("\n};\n")
end

io.write([[
#include <stddef.h>

struct embedded {
    const char *name;
    const unsigned char *text;
    size_t len;
};
]])
io.write("extern const struct embedded embedded_modules[];\n")
for i, path in ipairs(arg) do
   local file = assert(io.open(path, "rb"))
   write_bytes(i, file:read("a"))
   file:close()
end
io.write("const struct embedded embedded_modules[] = {\n")
for i, path in ipairs(arg) do
   io.write(('    { "%s", text_%d, sizeof text_%d },\n'):format(module_name(path), i, i))
end
io.write("    { NULL, NULL, 0 },\n};\n")
