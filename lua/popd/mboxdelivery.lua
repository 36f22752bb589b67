--- Messages as they stand in an mbox file, and how one comes to its end.
--
-- Behind a line `From sender date` a message's octets stay as they came, with the
-- fewest changes by which readers know where it ends: a `>` before lines that
-- look like such a line, a line end where the last line has none, one
-- blank line behind it all.  In `"mboxcl"` a Content-Length tells the body's octets in place of
-- any that came along.
-- @module popd.mboxdelivery
local core = require("popd.core")
local fs = require("popd.fs")
local root = require("popd.root")

local mboxdelivery = {}

local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

-- A longer line would not be looked at to its date.
local SENDER_MOST = 320

-- What gets a `>` in front.  Of headers nobody takes one off, so there it is
-- what must have one.
local IN_HEADER = "From "
local IN_BODY = { mboxo = "From ", mboxcl = "From ", mboxrd = ">*From " }

-- Making --------------------------------------------------------------------

-- The system's names of days and months might be another language's.
local function date(seconds)
   local t = os.date("!*t", seconds)
   return ("%s %s %2d %02d:%02d:%02d %d"):format(
      DAYS[t.wday], MONTHS[t.month], t.day, t.hour, t.min, t.sec, t.year)
end

-- The envelope's sender is in the first line, if anybody has told it.
local function sender_of(message)
   local sender = message:match("^Return%-Path:[ \t]*<([^\r\n]*)>") or ""
   sender = sender:gsub("[%s%c]+", "-"):sub(1, SENDER_MOST)
   return sender ~= "" and sender or "MAILER-DAEMON"
end

local function quote(text, line)
   return (("\n" .. text):gsub("\n(" .. line .. ")", "\n>%1"):sub(2))
end

local function ended(text)
   return (text == "" or text:sub(-1) == "\n") and text or text .. "\n"
end

-- The header, its blank line, and the body.
local function split(message)
   local text = "\n" .. message
   local at, stop = text:find("\n\r?\n")
   if not at then
      return ended(message), "", ""
   end
   return text:sub(2, at), text:sub(at + 1, stop), text:sub(stop + 1)
end

local function without_length(head)
   local kept, hidden = {}, false
   for line in head:gmatch("[^\n]*\n") do
      if not line:find("^[ \t]") then
         hidden = line:lower():find("^content%-length[ \t]*:") ~= nil
      end
      if not hidden then
         kept[#kept + 1] = line
      end
   end
   return table.concat(kept)
end

--- Makes a message's text in an mbox file, from its `From ` line to the blank line at its end.
-- @string message
-- @string format `"mboxo"`, `"mboxrd"` or `"mboxcl"`
-- @int now seconds since 1970
-- @treturn string
function mboxdelivery.text(message, format, now)
   local head, blank, body = split(message)
   head, body = quote(head, IN_HEADER), ended(quote(body, IN_BODY[format]))
   if format == "mboxcl" then
      head = ("%sContent-Length: %d\n"):format(without_length(head), #body)
   end
   return table.concat { "From ", sender_of(message), " ", date(now), "\n", head, blank, body, "\n" }
end

-- Adding --------------------------------------------------------------------

-- What is to be put between: a message that was cut off, or that nobody has
-- ended, is not to have the next one in it.
local function gap(file, size)
   local from = math.max(size - 3, 0)
   local tail, err = file:read(from, size - from)
   if not tail then
      return nil, err
   elseif tail == "" or tail:find("\n\r?\n$") then
      return ""
   end
   return tail:sub(-1) == "\n" and "\n" or "\n\n"
end

local function write(file, path, size, text)
   local between, err = gap(file, size)
   local ok
   if between then
      ok, err = file:write(size, between .. text)
   end
   if ok then
      ok, err = file:sync()
   end
   if ok and size == 0 then -- it may be new
      ok, err = fs.fsync(root.parent(path))
   end
   return ok, err
end

local function take_back(file, path, size)
   local ok, err = file:truncate(size)
   if ok then
      ok, err = file:sync()
   end
   if not ok then
      core.log("error", "a message that was written in part could not be taken back", { path = path, reason = err })
   end
end

--- Adds text at the end of a mailbox; all of it is on the disk then, or none of it
-- is there.  The caller holds its lock.  May wait.
-- @param file the mailbox, a spool with a file
-- @string path
-- @string text what `text` made
-- @treturn boolean true, or nil and the reason
function mboxdelivery.append(file, path, text)
   local size, err = file:stat()
   local ok
   if size then
      ok, err = write(file, path, size, text)
   end
   if ok then
      return true
   elseif size and file:stat() ~= size then
      take_back(file, path, size)
   end
   return nil, ("%s: %s"):format(path, err)
end

return mboxdelivery
