--- What the bench found, as text, as a table for a document, as JSON, as plots.
-- @module bench.report
local files = require("support.files")

local report = {}

-- How servers are called.
local NAMES = {
   limit = "limit", uring = "limit by io_uring", convert = "read-convert-write", popd = "popd-lua", dovecot = "Dovecot",
   tcllib = "tcllib pop3d",
}

--- The middle, the least and the most of some numbers.
-- @tparam {number,...} values
-- @treturn table `median`, `min`, `max`
function report.summary(values)
   local sorted = table.move(values, 1, #values, 1, {})
   table.sort(sorted)
   local low, high = sorted[(#sorted + 1) // 2], sorted[#sorted // 2 + 1]
   return { median = (low + high) / 2, min = sorted[1], max = sorted[#sorted] }
end

-- Three digits that count.
local function number(x)
   local digits = x == 0 and 0 or math.max(0, 2 - math.floor(math.log(math.abs(x), 10)))
   return ("%%.%df"):format(math.min(digits, 5)):format(x)
end

local function range(summary)
   return ("%s (%s–%s)"):format(number(summary.median), number(summary.min), number(summary.max))
end

-- How one server's median is to another's; nil where either was not measured.
local function ratio(result, of, to)
   local one, other = result.servers[of], result.servers[to]
   return one and other and other.value.median > 0 and one.value.median / other.value.median or nil
end

local function ratio_text(result, of, to)
   local r = ratio(result, of, to)
   return r and number(r) or "–"
end

-- Goals: what popd-lua may be at most. `of`: a server (its median is the measure), "itself"
-- (in the workload's unit), "total" (MiB, of `clients` at rest), or "refused" (of the
-- resumptions that clients asked for, per cent), or "library" (what the TLS library takes by itself).
local function goal_value(result, goal)
   local popd = result.servers.popd
   if goal.of == "total" then
      local last = popd and popd.turns[#popd.turns]
      return last and last.sessions == goal.clients and last.total / 1048576 or nil
   elseif goal.of == "itself" then
      return popd and popd.value.median
   elseif goal.of == "library" then
      return popd and result.library and popd.value.median / result.library
   elseif goal.of == "refused" then
      return popd and 100 - popd.turns[#popd.turns].resumed_percent
   end
   return ratio(result, "popd", goal.of)
end

local function goal_unit(result, goal)
   return goal.of == "itself" and result.unit
      or goal.of == "total" and ("MiB with %d"):format(goal.clients)
      or goal.of == "library" and "× the TLS library's own work"
      or goal.of == "refused" and "% of the resumptions refused"
      or "× " .. NAMES[goal.of]
end

local function goal_text(result, goal)
   local is = goal_value(result, goal)
   local verdict = not is and "not measured"
      or ("%s, it is %s"):format(is <= goal.most and "met" or "not met", number(is))
   return ("at most %s %s: %s"):format(number(goal.most), goal_unit(result, goal), verdict)
end

-- Text --------------------------------------------------------------------------------

--- Prints a workload's figures.
-- @tparam table result name, what, unit, goals, order, servers by name; library: what its TLS library takes by itself
function report.print(result)
   print(("\n%s: %s, %s"):format(result.name, result.what, result.unit))
   for _, name in ipairs(result.order) do
      local server = result.servers[name]
      local line = ("  %-20s %-28s"):format(NAMES[name], range(server.value))
      if name ~= "limit" then
         line = line .. (" %7s × limit"):format(ratio_text(result, name, "limit"))
      end
      if name ~= "dovecot" and result.servers.dovecot then
         line = line .. (" %7s × Dovecot"):format(ratio_text(result, name, "dovecot"))
      end
      print(line .. (server.extra and "  " .. server.extra or ""))
   end
   for _, goal in ipairs(result.goals) do
      print("  goal: " .. goal_text(result, goal))
   end
end

--- A table in Markdown of all results.
-- @tparam {table,...} results
-- @treturn string
function report.markdown(results)
   local columns = { "limit", "convert", "popd", "dovecot", "tcllib" }
   local lines = {
      "| workload | unit | limit | read-convert-write | popd-lua | Dovecot | tcllib pop3d | × limit | × Dovecot |",
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
   }
   for _, result in ipairs(results) do
      local cells = { ("`%s`"):format(result.name), result.unit }
      for _, name in ipairs(columns) do
         cells[#cells + 1] = result.servers[name] and range(result.servers[name].value) or "–"
      end
      cells[#cells + 1] = ratio_text(result, "popd", "limit")
      cells[#cells + 1] = ratio_text(result, "popd", "dovecot")
      lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |"
   end
   for _, result in ipairs(results) do
      for _, goal in ipairs(result.goals) do
         lines[#lines + 1] = ("%s- `%s`: %s"):format(lines[#lines]:find("^|") and "\n" or "", result.name,
            goal_text(result, goal))
      end
   end
   return table.concat(lines, "\n") .. "\n"
end

-- JSON --------------------------------------------------------------------------------

local encode

local function encode_table(value)
   local parts = {}
   if #value > 0 then
      for i, item in ipairs(value) do
         parts[i] = encode(item)
      end
      return "[" .. table.concat(parts, ",") .. "]"
   end
   for key, item in pairs(value) do
      parts[#parts + 1] = encode(key) .. ":" .. encode(item)
   end
   table.sort(parts) -- the same text for the same figures
   return "{" .. table.concat(parts, ",") .. "}"
end

local function encode_string(text)
   return '"' .. text:gsub('[%c"\\]', function(c)
      return ("\\u%04x"):format(c:byte())
   end) .. '"'
end

function encode(value)
   if type(value) == "table" then
      return encode_table(value)
   end
   return type(value) == "string" and encode_string(value) or tostring(value)
end

--- Plain values (strings, numbers, booleans, tables of them) as JSON.
report.json = encode

-- Plots -------------------------------------------------------------------------------

local BAR, GAP, LEFT, WIDTH = 22, 10, 170, 420

-- A bar by its median, with its least and most as a line; all are to scale.
local function bar(name, summary, scale, y)
   local x1, x2 = LEFT + summary.min * scale, LEFT + summary.max * scale
   local middle = y + BAR / 2
   return table.concat({
      ('<text x="%d" y="%.1f" text-anchor="end">%s</text>'):format(LEFT - 8, middle + 4, NAMES[name]),
      ('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>'):format(LEFT, y, summary.median * scale, BAR,
         name == "popd" and "#2a6" or "#89a"),
      ('<path d="M%.1f %.1fH%.1f" stroke="#000"/>'):format(x1, middle, x2),
      ('<text x="%.1f" y="%.1f">%s</text>'):format(x2 + 6, middle + 4, number(summary.median)),
   }, "\n")
end

--- A plot of a workload as SVG.
-- @tparam table result
-- @treturn string
function report.svg(result)
   local most = 0
   for _, name in ipairs(result.order) do
      most = math.max(most, result.servers[name].value.max)
   end
   local height = 30 + #result.order * (BAR + GAP)
   local parts = {
      ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">')
         :format(LEFT + WIDTH + 80, height),
      ('<text x="8" y="16">%s: %s, %s</text>'):format(result.name, result.what, result.unit),
   }
   for i, name in ipairs(result.order) do
      local y = 26 + (i - 1) * (BAR + GAP)
      parts[#parts + 1] = bar(name, result.servers[name].value, most > 0 and WIDTH / most or 0, y)
   end
   parts[#parts + 1] = "</svg>\n"
   return table.concat(parts, "\n")
end

--- Writes everything to a directory: result.json, a table, a plot for each workload.
function report.write(dir, machine, results)
   files.run("mkdir -p %s", dir)
   files.put(dir .. "/result.json", encode { machine = machine, results = results } .. "\n")
   files.put(dir .. "/table.md", report.markdown(results))
   for _, result in ipairs(results) do
      files.put(("%s/%s.svg"):format(dir, result.name), report.svg(result))
   end
end

return report
