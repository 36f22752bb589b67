--- What is wrong with what sessions have shown; for popd.check.
--
-- A session's look is `{ n =, total =, … }` with the messages by number, see
-- `Run:look` in check.lua.  What breaks a rule goes to `run:expect` and `run:fail`.
-- @module popd.verdicts
local samples = require("popd.samples")

local verdicts = {}

-- What is wrong within one session --------------------------------------------

-- What was put is what is fetched; sizes are what is sent.
function verdicts.message(run)
   return function(c, m, body)
      local expected = m.token and run.samples.wire(m.token)
      if expected then
         run:look_at("content")
      end
      if expected and body ~= expected then
         if not run:is_wrong_length(c, #expected, #body) then
            run:fail("content", run:call("get", m.id), samples.difference(expected, body))
         end
      elseif m.size then
         run:expect("size", m.size == m.octets or run:is_wrong_length(c, m.size, #body),
            run:call("size", m.id), "%d, but RETR %d sends %d octets", m.size, m.id, m.octets)
      end
   end
end

-- size(mbox) is the sum; where single sizes are wrong, that of what is sent will do.
function verdicts.total(run, seen)
   local told, sent = 0, 0
   for id = 1, seen.n do
      local m = seen[id]
      if not m.size or not m.octets then
         return
      end
      told, sent = told + m.size, sent + m.octets
   end
   if seen.total then
      run:expect("total", seen.total == told or seen.total == sent, run:call("size"),
         "%d, but the messages' sizes sum up to %d", seen.total, told)
   end
end

function verdicts.scan(run, seen)
   local sizes, uids = seen.scanned_sizes, seen.scanned_uids
   if not sizes then
      return
   end
   local call = run:call("scan")
   run:expect("scan", #sizes == seen.n, call, "%d sizes, but there are %d messages", #sizes, seen.n)
   for _, id in ipairs(seen.sample) do
      local m = seen[id]
      if sizes[id] and m.octets then
         run:expect("scan", sizes[id] == m.octets, call, "%d for message %d, but RETR %d sends %d octets",
            sizes[id], id, id, m.octets)
      end
      if uids and uids[id] and m.asked_uid then
         run:expect("scan", uids[id] == m.asked_uid, call, "%q for message %d, but uidl says %q",
            uids[id], id, m.asked_uid)
      end
   end
end

-- Identical messages may share one: RFC 1939 lets it be a digest.
function verdicts.uids(run, seen)
   local by_uid = {}
   for id = 1, seen.n do
      local m = seen[id]
      local other = m.uid and by_uid[m.uid]
      if m.uid then
         run:look_at("uid-form")
         run:expect("uid-unique", not other or m.digest ~= nil and other.digest == m.digest, run:call("uidl", id),
            "%q, which message %d has too", m.uid, other and other.id or 0)
         by_uid[m.uid] = m
      end
   end
end

-- What TOP shows of a message.
local function top_of(body, lines)
   local _, stop = ("\r\n" .. body):find("\r\n\r\n", 1, true)
   if not stop then
      return body
   end
   stop = stop - 2
   for _ = 1, lines do
      local _, line_end = body:find("\r\n", stop + 1, true)
      if not line_end then
         break
      end
      stop = line_end
   end
   return body:sub(1, stop)
end

local function judge_top(run, c, whole, id, lines)
   run.witness.last.top = nil
   local line, _, body = run:send(c, ("TOP %d %d"):format(id, lines))
   local call, expected = run:call("top", id, lines), top_of(whole, lines)
   run:look_at("top")
   if body and body ~= expected then
      run:fail("top", call, ("another text than the begin of get(%d): %s"):format(
         id, samples.difference(expected, body)))
   elseif not body and run.witness.last.top and run.witness.last.top.good then
      run:fail("top", call, "a handle that cannot be read to its end")
   end
   if not line then
      run:stop()
   end
end

function verdicts.top(run, c, seen)
   for _, id in ipairs(run.storage.top and seen.sample or {}) do
      local whole = run:fetch(c, id)
      for _, lines in ipairs(whole and { 0, 1, 3, 1000000 } or {}) do
         judge_top(run, c, whole, id, lines)
      end
   end
end

local function find_digest(seen, digest)
   for id = 1, seen.n do
      if digest and seen[id].digest == digest then
         return id
      end
   end
end

-- The same session looked at twice: nothing that a server asks for more than once
-- may have moved.  What was not answered the second time was told, unless `untold`.
function verdicts.fixed(run, before, after, rule, when, untold)
   local function same(old, new)
      return old == new or not new and not untold
   end
   for id = 1, before.n do
      local old, new = before[id], after[id]
      run:expect(rule, same(old.size, new.size), run:call("size", id), "%s, but %s before in the same session; %s",
         new.size, old.size, when)
      run:expect(rule, same(old.asked_uid, new.asked_uid), run:call("uidl", id),
         "%s, but %s before in the same session; %s", new.asked_uid, old.asked_uid, when)
      local other = old.digest ~= new.digest and find_digest(before, new.digest)
      run:expect(rule, not other and same(old.octets, new.octets), run:call("get", id), "%s; %s",
         other and ("what was message %d before in the same session"):format(other)
            or ("%s octets, but %s before in the same session"):format(new.octets, old.octets), when)
   end
end

-- What is wrong from one session to the next ------------------------------------

local function index(seen)
   local by_uid, by_digest = {}, {}
   for id = 1, seen.n do
      local m = seen[id]
      for map, key in pairs { [by_uid] = m.uid or false, [by_digest] = m.digest or false } do
         if key then
            map[key] = map[key] or {}
            table.insert(map[key], m)
         end
      end
   end
   return by_uid, by_digest
end

-- The message of the later session that m is, and how that is known: "same",
-- "renamed" (another unique-id), "changed" (another content); or nil.
local function find(m, by_uid, by_digest)
   for _, other in ipairs(m.uid and by_uid[m.uid] or {}) do
      if not m.digest or not other.digest or m.digest == other.digest then
         return other, "same"
      end
   end
   local twins = m.digest and by_digest[m.digest]
   if twins then
      return twins[1], m.uid and twins[1].uid and "renamed" or "same"
   end
   if m.uid and by_uid[m.uid] then
      return by_uid[m.uid][1], "changed"
   end
end

-- Whether it can be told from the others of its session.
local function is_known(m, by_uid, by_digest)
   local like, same = m.uid and by_uid[m.uid] or by_digest[m.digest] or {}, 0
   for _, other in ipairs(like) do
      same = same + (other.digest == m.digest and 1 or 0)
   end
   return same == 1
end

local function judge_kept(run, m, before, other, how)
   if m.uid then
      run:look_at("uid-stable")
   end
   if how == "renamed" then
      run:fail("uid-stable", run:call("uidl", other.id), ("%q, but the session before had %q for this message"):format(
         other.uid, m.uid))
   elseif how == "changed" and m.token and m.token == other.token then
      run:fail("content", run:call("get", other.id), "another content than in the session before")
   elseif how == "changed" and (m.token or find_digest(before, other.digest)) then
      run:fail("uid-stable", run:call("uidl", other.id),
         ("%q, which was another message's in the session before"):format(other.uid))
   end
end

-- Compares two sessions.  `gone`: "gone" or "perhaps" by the numbers of what the
-- first one deleted, or failed to; `rule` is what a lost message breaks, and `what` was done in between.
function verdicts.next(run, before, after, rule, what, gone)
   local by_uid, by_digest = index(after)
   local uids_before, digests_before = index(before)
   run:look_at(rule)
   for id = 1, before.n do
      local m = before[id]
      local other, how = find(m, by_uid, by_digest)
      local fate = gone and gone[id]
      if fate == "perhaps" or not is_known(m, uids_before, digests_before) then -- luacheck: ignore
         -- whether it is there says nothing, or which of its like is cannot be told
      elseif fate then
         run:expect("dele-less", how ~= "same" and how ~= "renamed", what, "true, but message %d is there again", id)
         if m.uid and run.put and not uids_before[m.uid][2] then
            run:expect("uid-reused", how ~= "changed", run:call("uidl", other and other.id or 0),
               "%q, the unique-id of a message that was deleted", m.uid)
         end
      elseif other then
         judge_kept(run, m, before, other, how)
      elseif m.digest or not run.failed["uid-stable"] then
         run:fail(rule, what, ("message %d, which nobody deleted, is lost in the next session"):format(id))
      end
   end
end

return verdicts
