--- What popd.check looks at, in words.
-- @module popd.rules
local rules = {}

local function lacks(operation)
   return function(run)
      return not run.storage[operation] and ("the storage has no %s"):format(operation)
   end
end

local function needs_messages(run)
   return run.last_n == 0 and "the maildrop is empty; give put, or fill it"
end

local function needs_put(run)
   return not run.put and "give put = function(mbox, text) that delivers a message"
end

local function needs_deletion(run)
   return not run.storage.dele and "the storage has no dele"
      or not (run.put or run.destructive) and "give put, or destructive = true for a maildrop that may lose mail"
      or needs_messages(run)
end

local function needs_uids(run)
   return not run.own_uids and "the storage has no unique-ids of its own; the server makes digests of the messages"
end

-- rule, what holds, what to do where it does not, and why it may be unchecked.
local list = {
   { "hang", "every call comes back",
      "Let nothing wait for ever: give what you wait for a time of its own, and end your loops." },
   { "raise", "no function raises",
      "An error is a fault: the client reads [SYS/TEMP], and the log has it." },
   { "answer", "every function answers with what it should",
      "See the table of storage functions in the guide; nil with a message is a fault." },
   { "put", "what put delivers shows in the next session",
      "Either put does not deliver to that mbox, or lock does not look for new messages.", needs_put },
   { "handle", "message handles give the whole message",
      "A path must be readable, a length must be what the file has, and a source must not end early.", needs_messages },
   { "content", "what is fetched is what was put",
      "Store octets as they come, with no change but the line ends.", needs_put },
   { "size", "size(mbox, id) is what is sent",
      "Count as POP3 sends: CRLF line ends, one at the end; popd.octets counts so.",
      function(run) return lacks("size")(run) or needs_messages(run) end },
   { "total", "size(mbox) is the sum of the sizes",
      "Sum up what size(mbox, id) says, of the messages of this session.", lacks("size") },
   { "scan", "scan tells what stat, size and uidl do",
      "Let them share one source; an entry that is not known is false.", lacks("scan") },
   { "top", "top gives the begin of what get gives",
      "Give the header, the blank line and at least so many lines, unchanged.", lacks("top") },
   { "ids", "numbers stay with their messages from lock to unlock",
      "Fix the list of messages in lock, and answer from it until unlock; new mail is for the next session.",
      needs_messages },
   { "range", "numbers that no message has do no harm",
      "Look whether there is such a message before you do anything.", needs_messages },
   { "uid-form", "unique-ids are 1 to 70 octets of 0x21 to 0x7E",
      "Use letters, digits and hyphens, or a digest in hex.",
      function(run) return needs_uids(run) or needs_messages(run) end },
   { "uid-unique", "no two messages share a unique-id",
      "Clients take two messages of one unique-id for the same, and fetch one of them.",
      function(run) return needs_uids(run) or needs_messages(run) end },
   { "uid-stable", "a message keeps its unique-id",
      "Make it of something that stays with the message: clients fetch everything again otherwise.",
      function(run) return needs_uids(run) or needs_messages(run) end },
   { "uid-reused", "a unique-id is never given again",
      "Do not number by place or by the highest number there is: clients would skip the new message.",
      function(run) return needs_uids(run) or needs_put(run) or needs_deletion(run) end },
   { "lock", "lock keeps a second session out",
      "Return false while a session has the maildrop, and true where none has.",
      function(run) return not run.storage.lock and "the storage has no lock; sessions do not exclude each other" end },
   { "lock-kept", "who is refused does not disturb who has the lock",
      "Change nothing before it is clear that the lock is free, and never unlock where you refuse.", lacks("lock") },
   { "lock-other", "locks of two maildrops do not touch each other",
      "Lock and unlock the mbox that you are called with, and no other.",
      function(run)
         return lacks("lock")(run) or run.mboxes.other == nil and "give other, a second maildrop"
      end },
   { "unlock", "a session's end frees the lock",
      "Free in unlock what lock took; it is called once for each lock that returned true.", lacks("lock") },
   { "renew", "renew keeps the lock",
      "Return true as long as the lease is yours.", lacks("renew") },
   { "quit-only", "nothing is deleted but by dele",
      "Delete in dele only, which is called at QUIT; not in get, not in unlock.", needs_messages },
   { "cut", "a client that is lost while it fetches loses nothing",
      "Do not take a fetched message for one that was handed over.", needs_messages },
   { "dele-less", "dele deletes what it says",
      "Return true only once every one of the messages is gone for good.", needs_deletion },
   { "dele-more", "dele deletes nothing else",
      "Find out what the numbers mean before you delete the first: the others may move.", needs_deletion },
   { "gone", "deleting what is gone already does no harm",
      "Delete by what a message is, not by its place.",
      function(run)
         return run.storage.lock and "the lock keeps others from deleting meanwhile" or needs_deletion(run)
      end },
}

local function state_of(run, row)
   local name, text, advice, needs = table.unpack(row)
   if run.failed[name] then
      return { rule = name, state = "failed", text = text, advice = advice }
   end
   local why = not run.looked[name] and (needs and needs(run)
      or run.stopped and "what failed has to be set right first" or "there was nothing to see it by")
   if why then
      return { rule = name, state = "unchecked", text = text, why = why }
   end
   return { rule = name, state = "held", text = text }
end

local function line_of(found)
   local more = found.more > 0 and (" (and %d times more)"):format(found.more) or ""
   return ("%s: %s: %s%s"):format(found.rule, found.call, found.got, more)
end

local Report = {}

function Report:__tostring()
   local lines = {}
   for i, found in ipairs(self) do
      lines[i] = line_of(found)
   end
   return lines[1] and table.concat(lines, "\n") or "no rule is broken"
end

local Found = { __tostring = line_of }

--- Makes a report of what a run has found.
-- @tparam table run `report`, `failed`, `looked`, `stopped`, and what the check was given
-- @treturn table see `popd.check`
function rules.report(run)
   local report = setmetatable(run.report, Report)
   for _, found in ipairs(report) do
      setmetatable(found, Found)
   end
   report.rules = {}
   for i, row in ipairs(list) do
      report.rules[i] = state_of(run, row)
   end
   return report
end

return rules
