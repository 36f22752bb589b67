--- The command `popd-lua deliver`: one message from standard input into a maildrop.
--
-- It is a mail delivery agent: its status is one of sysexits.h, by which an MTA
-- knows whether to try again.  Whatever a second try could mend is EX_TEMPFAIL, also
-- what an administrator has to mend first: until then mail waits and does not bounce.
-- @module popd.delivering
local flags = require("popd.flags")
local privilege = require("popd.privilege")
local stores = require("popd.stores")

local delivering = {}

local known = {
   ["--store"] = "store", ["--user"] = "user", ["--from"] = "from", ["--delivered-to"] = "to",
}

local EXIT = { USAGE = 64, NOINPUT = 66, NOUSER = 67, CANTCREAT = 73, TEMPFAIL = 75 }

local function fail(sort, text)
   io.stderr:write("popd-lua: deliver: ", (tostring(text):gsub("%c", " ")), "\n")
   return EXIT[sort]
end

local function wrong_text(flag, text)
   return text and text:find("%c") and flag .. ": control characters are not taken" or nil
end

-- What is wrong with the words, or nil.
local function check(given, words)
   return not given.store and "where to? Say --store maildir:PATH, mbox:PATH, dbox:DIR or sqlite:FILE"
      or (words[given.rest] or "") == "" and "to whom? Name the maildrop"
      or words[given.rest + 1] and "one maildrop at a time"
      or wrong_text("--from", given.from) or wrong_text("--delivered-to", given.to)
end

local function deliver(given, mbox)
   local wrong = privilege.become(given.user)
   if wrong then
      return fail("TEMPFAIL", wrong)
   end
   local store, why = stores.open(given.store)
   if not store then
      return fail("TEMPFAIL", why)
   end
   local ok, err, sort = store.deliver(mbox, io.stdin, { from = given.from, to = given.to })
   if not ok then
      return fail(sort or "TEMPFAIL", sort == "NOINPUT" and "standard input: " .. err or err)
   end
   return 0
end

--- Runs the command.
-- @tparam table words its flags and the maildrop, from 1 on
-- @treturn integer the status to exit with
function delivering.main(words)
   local given, wrong = flags.parse(words, 1, known)
   wrong = wrong or check(given, words)
   if wrong then
      return fail("USAGE", wrong)
   end
   local ok, status = pcall(deliver, given, words[given.rest])
   return ok and status or fail("TEMPFAIL", status)
end

return delivering
