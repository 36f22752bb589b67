--- Directories, files and lock-holding processes for specs.
local files = {}

--- What runs Lua text in another process: under a sanitizer the program, which
-- carries the module and the sanitizer's runtime.
files.interpreter = os.getenv("POPD_INTERPRETER") or "lua5.4"

local function quote(text)
   return "'" .. text:gsub("'", "'\\''") .. "'"
end

files.quote = quote

--- Runs a shell command that must succeed; each %s is a word.
function files.run(command, ...)
   local words = {}
   for i = 1, select("#", ...) do
      words[i] = quote((select(i, ...)))
   end
   assert(os.execute(command:format(table.unpack(words))))
end

--- The first line that a shell command writes; nil: none.
function files.first_line(command)
   local pipe = assert(io.popen(command))
   local line = pipe:read("l")
   pipe:close()
   return line
end

--- A path that holds wherever one goes.
function files.absolute(path)
   return (assert(files.first_line("realpath " .. quote(path)), path))
end

--- A directory of the spec's own; `remove` it after.
function files.new_dir()
   return assert(files.first_line("mktemp -d"))
end

function files.remove(dir)
   assert(#dir > 5)
   files.run("chmod -R u+rwx %s; rm -rf %s", dir, dir)
end

function files.put(path, text)
   local file = assert(io.open(path, "wb"))
   assert(file:write(text))
   assert(file:close())
   return path
end

function files.text(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read("a")
   file:close()
   return text
end

function files.exists(path)
   local file = io.open(path, "rb")
   return file ~= nil and file:close()
end

--- A Lua program with this one's modules.
function files.lua(script)
   return ("env LUA_INIT= LUA_INIT_5_4= LUA_PATH=%s LUA_CPATH=%s %s %s"):format(
      quote(package.path),
      quote(package.cpath),
      files.interpreter,
      quote(script)
   )
end

--- Starts another process that runs Lua text and says what `say` is called
-- with; it lives until `stop` (its input ends) or `kill`.  Returns when it has
-- said something.
function files.other_process(text)
   local fifo, script = os.tmpname(), os.tmpname()
   os.remove(fifo)
   files.run("mkfifo %s", fifo)
   files.put(script, [[
      local function say(...) print(...) io.stdout:flush() end
      ]] .. text .. [[

      io.read()
   ]])
   local command = ("echo $$ > %s.pid && exec %s > %s"):format(fifo, files.lua(script), fifo)
   local pipe = assert(io.popen(command, "w"))
   local out = assert(io.open(fifo))
   local other = { said = out:read("l") }
   local pid = files.text(fifo .. ".pid"):match("%d+")

   function other.stop()
      pipe:close()
      out:close()
      os.remove(fifo)
      os.remove(script)
      os.remove(fifo .. ".pid")
   end

   function other.kill()
      files.run("kill -9 " .. pid)
      other.stop()
   end

   return other
end

local function succeeds(command)
   return os.execute(command .. " >/dev/null 2>&1") == true
end

--- What popd-lua is told so that it serves as the user who runs the specs.
function files.as_oneself()
   return succeeds('test "$(id -u)" = 0') and { "--user", "root" } or {}
end

--- What to put before a command that file modes are to bind: nothing, or for
-- root a change of user.  nil: there is no way.
function files.unprivileged()
   if not succeeds('test "$(id -u)" = 0') then
      return ""
   end
   local drop = "setpriv --reuid=65534 --clear-groups -- "
   local script = files.put(os.tmpname(), 'require("popd.fs")')
   files.run("chmod 644 %s", script)
   local works = succeeds(drop .. files.lua(script))
   os.remove(script)
   return works and drop or nil
end

return files
