--- The file system, as back ends need it.
--
-- A failure is `nil`, a reason (`"unlink /x: Permission denied"`) and the
-- error's name (`"EACCES"`; nil for a rare one); only a wrong argument raises.
-- Paths cannot contain NUL.
--
-- In a callback `scandir`, `read`, `write`, `octets`, `fsync` and `change` wait while a
-- thread works, and others are served meanwhile.  The rest is one system call each.
-- @module popd.fs
-- @usage
-- local lock <close> = assert(fs.lock("/var/vmail/.lock", "joe"))
-- for _, name in ipairs(assert(fs.scandir("/var/vmail/joe/new"))) do print(name) end
local core = require("popd.core").fs

local fs = {}
for name, f in pairs(core) do
   fs[name] = f
end

--- Lists a directory, without `.` and `..`, in the system's order.
-- @function scandir
-- @string dir
-- @treturn table names
-- @treturn table their types, in the same order: `"file"`, `"directory"`, `"link"` or `"other"`

--- Tells what a path is.
-- @function stat
-- @string path
-- @bool[opt=false] follow at a symbolic link, tell what it points to
-- @treturn table `type` (as in `scandir`), `size`, `mtime` (with a fraction), `ino`, `dev`, `nlink`, `mode`, `uid`,
-- `gid`

--- The octets of a regular file, as stored.
-- @function size
-- @string path
-- @treturn integer

--- Renames, replacing what had the new name.
-- @function rename
-- @string from
-- @string to
-- @treturn boolean true

--- Renames or removes many files, as one piece of work.  Nothing is replaced: a
-- name that exists is a failure.
-- @function change
-- @tparam table froms paths
-- @tparam table tos the new path of each, or false: remove it
-- @treturn table in the same order: true, or the error's name (false: a rare one)
-- @treturn table the reasons of failures, at the same places
-- @usage local results, reasons = fs.change({ "cur/1", "cur/2" }, { "../.Trash/cur/1", false })

--- Adds to a file that is there, by one write, whoever else adds to it.
-- @function append
-- @string path
-- @string data
-- @treturn boolean true

--- Makes a second name.
-- @function link
-- @string from
-- @string to
-- @treturn boolean true

--- Removes a name that is not a directory's.
-- @function unlink
-- @string path
-- @treturn boolean true

--- Makes a directory.
-- @function mkdir
-- @string path
-- @int[opt=448] mode 448 is octal 700
-- @treturn boolean true

--- Removes an empty directory.
-- @function rmdir
-- @string path
-- @treturn boolean true

--- Sets who may read and write a file.
-- @function chmod
-- @string path
-- @int mode 384 is octal 600
-- @treturn boolean true

--- Gives a file, or a symbolic link itself, to a user and a group.
-- @function chown
-- @string path
-- @int uid
-- @int gid
-- @treturn boolean true

--- Returns when a file's data, or a directory's names, are on the disk.
-- @function fsync
-- @string path
-- @treturn boolean true

--- Makes a new file, on the disk when this returns: whole, or not at all.  A
-- name that exists is a failure, a symbolic link too.
-- @function write
-- @string path
-- @string data
-- @int[opt=384] mode 384 is octal 600
-- @treturn boolean true

--- Reads a whole file.
-- @function read
-- @string path
-- @int[opt] max a file with more octets is a failure
-- @treturn string

--- Counts the octets of a file's message as POP3 sends them: CRLF line ends,
-- also at the end, and no added dots.
-- @function octets
-- @string path
-- @int[opt=0] offset where the message starts
-- @int[opt] length a file that ends before is a failure; absent: to the end
-- @treturn integer

--- The same of a string.
-- @function octets_of
-- @string message
-- @treturn integer

--- What tells a file from an earlier one that had the same inode number.  Not
-- every file system knows; where it does not, that is a failure.
-- @function generation
-- @string path
-- @treturn integer

--- A SHA-256, 64 hex digits.
-- @function sha256
-- @string data
-- @treturn string

--- A number of 62 bits from a string, by SHA-256.
-- @function hash62
-- @string data
-- @treturn integer

--- Opens a file for locks, or makes it; `lock` is the function to use.
-- @function lockfile
-- @string path
-- @return an object with `lock(offset)`, `unlock(offset)`, `holder(offset)`, `is(path)`, `close()`

-- Open lock files by path.  Each is closed when the last lock in it has gone,
-- or when its file was replaced.
local files = setmetatable({}, { __mode = "v" })

-- The locks that this process holds, by path, by byte: also those in a file
-- that was removed since, which other processes can no longer see.  A lock keeps
-- the table of its path.
local held = setmetatable({}, { __mode = "v" })

local function held_in(path)
   local locks = held[path]
   if not locks then
      locks = setmetatable({}, { __mode = "v" })
      held[path] = locks
   end
   return locks
end

local function open(path)
   if files[path] then
      return files[path]
   end
   local file, err, code = core.lockfile(path)
   files[path] = file
   return file, err, code
end

local function byte_of(key)
   if type(key) == "string" then
      return core.hash62(key)
   end
   if math.type(key) ~= "integer" or key < 0 or key >= 1 << 62 then
      error("the key of a lock is a string or an integer of 62 bits", 3)
   end
   return key
end

local function check_path(path)
   if type(path) ~= "string" then
      error("the path of a lock file is a string", 3)
   end
end

-- A lock is an array, which is small: sessions that rest have one each.
local FILE, BYTE, AMONG = 1, 2, 3 -- the file, false once it is given back; which byte; the locks of its path

local Lock = {}
Lock.__index = Lock

--- Gives a lock back; a second time does nothing.
-- @function Lock:release
function Lock:release()
   local file, byte, among = self[FILE], self[BYTE], self[AMONG]
   if file then
      self[FILE] = false
      if among[byte] == self then
         among[byte] = nil
      end
      file:unlock(byte)
   end
end

Lock.__close = Lock.release
Lock.__gc = Lock.release

local function try(path, locks, byte)
   local file, err, code = open(path)
   if not file then
      return nil, err, code
   end
   -- Made first, so that no lack of memory leaves a lock that nobody can release.
   local lock = setmetatable({ false, byte, locks }, Lock) -- FILE, BYTE, AMONG
   local ok
   ok, err, code = file:lock(byte)
   if not ok then
      return ok, err, code
   end
   lock[FILE] = file
   locks[byte] = lock
   return lock
end

--- Locks one byte of a lock file against everybody: other processes, and other
-- callers in this one.  The system frees it when the process dies.  Many locks
-- in one file cost one descriptor.
-- @string path of the lock file, made where absent; never remove it
-- @tparam string|integer key a string stands for 62 bits of its SHA-256
-- @return an object with `:release()`, also for `local lock <close>`; or false:
-- somebody holds it
function fs.lock(path, key)
   check_path(path)
   local byte = byte_of(key)
   local locks = held_in(path)
   for _ = 1, 10 do
      if locks[byte] then
         return false
      end
      local lock, err, code = try(path, locks, byte)
      -- A lock in a file that was removed meanwhile would keep nobody out.
      if not lock or lock[FILE]:is(path) then
         return lock, err, code
      end
      lock:release()
      files[path] = nil
   end
   return nil, ("lock %s: the file is replaced again and again"):format(path)
end

--- Whether anybody holds a lock.
-- @string path of the lock file
-- @tparam string|integer key
-- @treturn boolean
function fs.locked(path, key)
   check_path(path)
   local byte = byte_of(key)
   if held_in(path)[byte] then
      return true
   end
   local _, err, code = core.stat(path)
   if err then
      if code == "ENOENT" then
         return false
      end
      return nil, err, code
   end
   if files[path] and not files[path]:is(path) then
      files[path] = nil
   end
   local file, holder
   file, err, code = open(path)
   if not file then
      return nil, err, code
   end
   holder, err, code = file:holder(byte)
   if err then
      return nil, err, code
   end
   return holder ~= nil
end

return fs
