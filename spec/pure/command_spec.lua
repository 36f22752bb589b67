local command = require("popd.testing").command

-- a line                what is in the command
local good = {
   { "USER ann",         { verb = "USER", name = "ann" } },
   { "user ann  ",       { verb = "USER", name = "ann", keyword = "user" } },
   { "USER ann\t",       { name = "ann" } },
   { "USER \195\164nn",  { name = "\195\164nn" } },
   { "uSeR a@b.example", { verb = "USER", name = "a@b.example" } },
   { "PASS secret",      { verb = "PASS", secret = "secret" } },
   { "PASS two words",   { secret = "two words" } },
   { "PASS  leading",    { secret = " leading" } },
   { "PASS trailing  ",  { secret = "trailing  " } },
   { "PASS  ",           { secret = " " } },
   { "pass p\tq\t",      { verb = "PASS", secret = "p\tq\t" } },
   { "PASS \r",          { secret = "\r" } },
   { "PASS {12}",        { secret = "{12}" } },
   { "APOP ann 0123abc", { verb = "APOP", name = "ann", secret = "0123abc" } },
   { "STAT",             { verb = "STAT", args = "" } },
   { "STAT ",            { verb = "STAT", args = "" } },
   { "stat",             { verb = "STAT", keyword = "stat" } },
   { "LIST",             { verb = "LIST", number = 0 } },
   { "LIST   ",          { verb = "LIST", number = 0 } },
   { "LIST 1",           { verb = "LIST", number = 1 } },
   { "UIDL",             { verb = "UIDL", number = 0 } },
   { "UIDL 12 ",         { verb = "UIDL", number = 12 } },
   { "RETR 1",           { verb = "RETR", number = 1 } },
   { "RETR 007",         { number = 7 } },
   { "DELE 3",           { verb = "DELE", number = 3 } },
   { "TOP 1 0",          { verb = "TOP", number = 1, lines = 0 } },
   { "TOP 2 10 ",        { verb = "TOP", number = 2, lines = 10 } },
   { "NOOP",             { verb = "NOOP" } },
   { "RSET",             { verb = "RSET" } },
   { "QUIT",             { verb = "QUIT" } },
   { "CAPA",             { verb = "CAPA" } },
   { "RETR 9223372036854775807", { number = math.maxinteger } },
   { "RETR 18446744073709551615", { number = -1 } },
   { "RETR 18446744073709551616", { number = -1 } },
   { "RETR 99999999999999999999999999999999999999", { number = -1 } },
   { "TOP 1 99999999999999999999", { number = 1, lines = -1 } },
   { "AUTH",             { verb = "AUTH", args = "" } },
   { "AUTH  ",           { verb = "AUTH" } },
   { "auth plain",       { verb = "AUTH", name = "plain" } },
   { "AUTH PLAIN ",      { verb = "AUTH", name = "PLAIN" } },
   { "AUTH PLAIN =",     { verb = "AUTH", name = "PLAIN", secret = "=" } },
   { "AUTH X-1 AGFi/+==", { name = "X-1", secret = "AGFi/+==" } },
   { "STLS",             { verb = "STLS" } },
   { "stls ",            { verb = "STLS" } },
   { "UTF8",             { verb = "UTF8" } },
   { "LANG",             { verb = "LANG", args = "" } },
   { "LANG *",           { verb = "LANG", name = "*" } },
   { "lang de-CH",       { verb = "LANG", name = "de-CH" } },
   { "LANG 0",           { verb = "LANG", name = "0" } },
   { "LAST",             { verb = "OTHER", keyword = "LAST", args = "" } },
   { "XCOUNT a  b ",     { verb = "OTHER", keyword = "XCOUNT", args = "a  b" } },
   { "STA",              { verb = "OTHER" } },
   { "STATS",            { verb = "OTHER" } },
   { "STAT\r",           { verb = "OTHER" } },
   { "PASS\tx",          { verb = "OTHER" } },
}

-- a line that cannot be run, and the verb that it has nevertheless
local bad = {
   { "",                "OTHER" },
   { " ",               "OTHER" },
   { " STAT",           "OTHER" },
   { "USER",            "USER" },
   { "USER ",           "USER" },
   { "USER  ann",       "USER" },
   { "USER ann smith",  "USER" },
   { "PASS",            "PASS" },
   { "PASS ",           "PASS" },
   { "APOP ann",        "APOP" },
   { "APOP  digest",    "APOP" },
   { "APOP ann  digest", "APOP" },
   { "APOP ann digest more", "APOP" },
   { "STAT 1",          "STAT" },
   { "NOOP x",          "NOOP" },
   { "RSET 1",          "RSET" },
   { "QUIT now",        "QUIT" },
   { "CAPA x",          "CAPA" },
   { "AUTH  PLAIN",     "AUTH" },
   { "AUTH PLAIN  =",   "AUTH" },
   { "AUTH PLAIN a b",  "AUTH" },
   { "AUTH PLAIN a\0",  "AUTH" },
   { "STLS now",        "STLS" },
   { "UTF8 USER",       "UTF8" },
   { "LANG de en",      "LANG" },
   { "LANG  de",        "LANG" },
   { "LIST 0",          "LIST" },
   { "LIST 000",        "LIST" },
   { "LIST x",          "LIST" },
   { "LIST 1 2",        "LIST" },
   { "LIST  1",         "LIST" },
   { "UIDL 0",          "UIDL" },
   { "UIDL -1",         "UIDL" },
   { "RETR",            "RETR" },
   { "RETR 0",          "RETR" },
   { "RETR +1",         "RETR" },
   { "RETR -1",         "RETR" },
   { "RETR 1x",         "RETR" },
   { "RETR 1:",         "RETR" },
   { "RETR 1/",         "RETR" },
   { "RETR 1.0",        "RETR" },
   { "RETR 0x1",        "RETR" },
   { "RETR 1\r",        "RETR" },
   { "RETR \217\161",   "RETR" },
   { "DELE",            "DELE" },
   { "DELE 1 1",        "DELE" },
   { "TOP",             "TOP" },
   { "TOP 1",           "TOP" },
   { "TOP 1 ",          "TOP" },
   { "TOP 1 -1",        "TOP" },
   { "TOP 0 1",         "TOP" },
   { "TOP 1 2 3",       "TOP" },
   { "TOP 1  2",        "TOP" },
   -- NUL octets, which must not cut a line short
   { "STAT\0",          "OTHER" },
   { "\0",              "OTHER" },
   { "USER ann\0",      "USER" },
   { "USER a\0b",       "USER" },
   { "PASS sec\0ret",   "PASS" },
   { "PASS \0",         "PASS" },
   { "RETR 1\0",        "RETR" },
   { "LAST \0",         "OTHER" },
   { "LA\0ST",          "OTHER" },
}

describe("command", function()
   for _, case in ipairs(good) do
      local line, expected = case[1], case[2]
      it(("takes %q apart"):format(line), function()
         local found = assert(command(line))
         for field, value in pairs(expected) do
            assert.equal(value, found[field], field)
         end
      end)
   end

   for _, case in ipairs(bad) do
      local line, verb = case[1], case[2]
      it(("refuses %q, and says why"):format(line), function()
         local found, why, its = command(line)
         assert.is_nil(found)
         assert.is_true(#why > 0)
         assert.is_nil(why:find("%c"))
         assert.equal(verb, its)
      end)
   end

   it("tells no response from an empty one", function()
      assert.is_nil(command("AUTH").name)
      assert.is_nil(command("AUTH").secret)
      assert.is_nil(command("AUTH PLAIN").secret)
      assert.is_nil(command("LANG").name)
   end)

   it("says NUL where it is NUL, and how a command is written where it is not so written", function()
      assert.matches("NUL", (select(2, command("USER a\0"))))
      assert.matches("TOP number lines", (select(2, command("TOP 1"))), 1, true)
   end)

   it("knows every keyword in any mixture of cases", function()
      for _, line in ipairs { "sTaT", "List", "rEtR 1", "delE 1", "nooP", "rset", "tOp 1 1", "uidL", "quIt", "capA" } do
         assert.equal(line:match("%a+"):upper(), command(line).verb)
      end
   end)

   it("gives keyword and arguments back as they were, whatever the octets", function()
      math.randomseed(2449)
      for _ = 1, 2000 do
         local octets = {}
         for i = 1, math.random(0, 12) do
            octets[i] = string.char(math.random(0, 4) == 0 and 32 or math.random(1, 255))
         end
         local line = "X" .. table.concat(octets)
         local found = assert(command(line))
         assert.equal(line:match("^[^ ]*"), found.keyword)
         assert.equal((line:match("^[^ ]* ?(.*)$"):gsub("[ \t]+$", "")), found.args)
      end
   end)
end)
