--- Deletion from an mbox file such that a crash loses nothing.
--
-- The file is rewritten where it stands: it keeps its inode, so that a program
-- which has it open and waits for the lock writes to what is still the mailbox.
-- What is to follow the first message that goes is first written to a journal
-- beside it.  The journal's name is `.<name>.popd-journal`; it begins with a block
-- of 512 octets, whose first octet is the state:
--
-- `C`: what is in the journal is to be copied to where it belongs, and the file
-- is as long as it was, or longer by what was delivered since.
--
-- `T`: it was copied, an octet 0 stands behind it, and the rest is to be cut off.
-- No mail starts with a 0: so where there is none, it was cut off.
--
-- Each step is on the disk before the next one.  Whoever locks the file next
-- does what is left to do.
-- @module popd.mboxjournal
local core = require("popd.core")
local fs = require("popd.fs")

local journal = {}

local BLOCK = 512
local WINDOW = 4096 -- octets in front of what changes and at the end, by which the file is known
local COPY_MOST = 16 * 1024 * 1024 -- octets that one job of a thread copies
local RANGES_MOST = 4000
local HEADER = "popd-mbox-journal 1 %d %d %d %s %s"

local function names_of(path)
   local dir, base = path:match("^(.-)([^/]*)$")
   local name = ("%s.%s.popd-journal"):format(dir, base)
   return name, name .. ".new", dir == "" and "." or dir
end

local function sync_dir(dir)
   local opened, err = core.spool(dir, "directory")
   if not opened then
      return nil, err
   end
   local ok
   ok, err = opened:sync()
   opened:close()
   return ok, err
end

-- Copies ranges of one file, so many at a time that others have their turn.
-- Returns where what was copied ends.
local function copy(to, at, from, ranges)
   local batch, octets = {}, 0
   local function flush()
      local ok, err = to:copy(at, from, batch)
      at, batch, octets = at + octets, {}, 0
      return ok, err
   end
   for i = 1, #ranges, 2 do
      local start, left = ranges[i], ranges[i + 1]
      while left > 0 do
         local n = math.min(left, COPY_MOST - octets)
         batch[#batch + 1], batch[#batch + 2] = start, n
         start, left, octets = start + n, left - n, octets + n
         if octets == COPY_MOST or #batch >= RANGES_MOST then
            local ok, err = flush()
            if not ok then
               return nil, err
            end
         end
      end
   end
   local ok, err = flush()
   return ok and at, err
end

-- What tells the file from others: what does not change in front of what does, and
-- at the old end.
local function window(file, from, to)
   from = math.max(from, to - WINDOW)
   local text, err = file:read(from, to - from)
   return text and fs.sha256(text), err
end

local function windows(file, h)
   local before, err = window(file, 0, h.first)
   local after, why = window(file, h.stop + 1, h.size)
   return before and after and { before, after }, err or why
end

local function block_of(h)
   local text = HEADER:format(h.size, h.first, h.stop, h.windows[1], h.windows[2])
   local line = ("C %s %s"):format(text, fs.sha256(text))
   return line .. (" "):rep(BLOCK - 1 - #line) .. "\n"
end

-- The block of an open journal, or nil: it is none, or not whole.
local function read_block(file)
   local block = file:read(0, BLOCK)
   local state, text, sum = (block or ""):match("^([CT]) (popd%-mbox%-journal 1 .*) (%x+) *\n$")
   if not state or fs.sha256(text) ~= sum then
      return nil
   end
   local size, first, stop, before, after = text:match(" 1 (%d+) (%d+) (%d+) (%x+) (%x+)$")
   if not size then
      return nil
   end
   local h = { state = state, windows = { before, after } }
   h.size, h.first, h.stop = math.tointeger(tonumber(size)), math.tointeger(tonumber(first)),
      math.tointeger(tonumber(stop))
   return file:stat() == BLOCK + h.stop - h.first and h or nil
end

local function fill(file, spool, h, pieces)
   local at = BLOCK
   for _, piece in ipairs(pieces) do
      local stop, why = copy(file, at, piece.from, piece.ranges)
      if not stop then
         return nil, why
      end
      at = stop
   end
   h.stop = h.first + at - BLOCK
   local ok, err
   h.windows, err = windows(spool, h)
   if h.windows then
      ok, err = file:write(0, block_of(h))
   end
   if ok then
      ok, err = file:sync()
   end
   return ok, err
end

-- Writes a journal; from its renaming on the deletion is decided.
local function write(spool, path, h, pieces)
   local name, new, dir = names_of(path)
   fs.unlink(new)
   local file, err = core.spool(new, "new")
   if not file then
      return nil, err
   end
   local ok
   ok, err = fill(file, spool, h, pieces)
   if ok then
      ok, err = fs.rename(new, name)
   end
   if not ok then
      fs.unlink(new)
      file:close()
      return nil, err
   end
   h.state = "C"
   ok, err = sync_dir(dir)
   return ok and file, err
end

-- Each of these returns true, or nil and the reason.

local function copy_back(file, log, h)
   local ok, err = copy(file, h.first, log, { BLOCK, h.stop - h.first })
   if ok then
      ok, err = file:write(h.stop, "\0")
   end
   if ok then
      ok, err = file:sync()
   end
   if ok then
      ok, err = log:write(0, "T")
   end
   if ok then
      ok, err = log:sync()
   end
   h.state = "T"
   return ok and true, err
end

local function cut_off(file, h)
   local ok, err = file:truncate(h.stop)
   if ok then
      ok, err = file:sync()
   end
   return ok, err
end

-- Mail has come behind what was there: a new journal takes it in.
local function take_in(file, path, log, h, size)
   local further = { size = size, first = h.first }
   local grown, err = write(file, path, further, {
      { from = log, ranges = { BLOCK, h.stop - h.first } },
      { from = file, ranges = { h.size, size - h.size } },
   })
   if grown then
      log:close()
   end
   return grown, grown and further or err
end

local function is_cut_off(file, h, size)
   return h.state == "T" and (size < h.size or file:read(h.stop, 1) ~= "\0")
end

local function apply(file, path, log, h)
   local name, _, dir = names_of(path)
   local size, err = file:stat()
   while size and not is_cut_off(file, h, size) do
      local ok
      if size > h.size then
         log, h = take_in(file, path, log, h, size)
         ok, err = log, h
      elseif h.state == "C" then
         ok, err = copy_back(file, log, h)
      else
         ok, err = cut_off(file, h)
      end
      if not ok then
         return nil, err
      end
      size, err = file:stat()
   end
   log:close()
   if not size then
      return nil, err
   end
   local ok
   ok, err = fs.unlink(name)
   if not ok then
      return nil, err
   end
   return sync_dir(dir)
end

-- The file is not what the journal was made for: what it keeps stays for people.
local function set_aside(path, why)
   local name = names_of(path)
   local st = fs.stat(name)
   local kept = ("%s.kept-%d-%d"):format(name, os.time(), st and st.ino or 0)
   local ok, err = fs.rename(name, kept)
   core.log("error", "a deletion that was cut off does not fit its mailbox; the mail that it kept is in this file", {
      path = path, kept = ok and kept or name, reason = why,
   })
   return ok, err
end

-- Where all may write to the directory, anybody could have put it there.
local function is_ours(log)
   local _, _, uid = core.spool_self()
   local owner = select(5, log:stat())
   return owner == uid or owner == 0
end

local function misfit(file, log, h)
   local size = file:stat()
   if not is_ours(log) then
      return "it is not ours"
   elseif not h then
      return "it is not whole"
   elseif not size then
      return "the mailbox is gone"
   elseif is_cut_off(file, h, size) then
      return nil
   end
   local now = size >= h.size and windows(file, h)
   if not now or now[1] ~= h.windows[1] or now[2] ~= h.windows[2] then
      return "another program has changed the mailbox since"
   end
   return nil
end

--- Does what a session that was cut off has left to do.  The caller holds the
-- mailbox's lock.  May wait.
-- @param file the mailbox, a spool; without a file where there is none
-- @string path
-- @treturn boolean true, or nil and the reason: then nothing may be read or changed
function journal.recover(file, path)
   local name, new = names_of(path)
   fs.unlink(new)
   local log, err, code = core.spool(name)
   if not log then
      return code == "ENOENT" or nil, err
   end
   local h = read_block(log)
   local why = misfit(file, log, h)
   if why then
      log:close()
      return set_aside(path, why)
   end
   core.log("warning", "a deletion that was cut off is ended", { path = path })
   return apply(file, path, log, h)
end

--- Rewrites a mailbox so that after `first` there is only what the ranges name.
-- The caller holds its lock.  May wait.
-- @param file the mailbox, a spool
-- @string path
-- @int first where the change begins
-- @tparam table ranges offset, octets, offset, octets, …
-- @int size how long the mailbox is
-- @treturn boolean true, or nil and the reason
function journal.rewrite(file, path, first, ranges, size)
   if #ranges == 0 then -- one step, which is done or not
      return cut_off(file, { stop = first })
   end
   local h = { size = size, first = first }
   local log, err = write(file, path, h, { { from = file, ranges = ranges } })
   if not log then
      return nil, err
   end
   return apply(file, path, log, h)
end

return journal
