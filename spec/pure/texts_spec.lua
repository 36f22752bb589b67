local texts = require("popd.core").texts()
local testing = require("popd.testing")
local fill, find, is_utf8 = testing.texts_fill, testing.language_find, testing.texts_utf8

describe("texts", function()
   it("are each there once, of one line, and short enough for a reply", function()
      local seen = {}
      for _, text in ipairs(texts) do
         assert.is_nil(seen[text], text)
         assert.is_nil(text:find("%c"))
         assert.is_true(#text > 0 and #text <= 200)
         seen[text] = true
      end
   end)

   -- text, values, what comes out
   local cases = {
      { "%1 messages (%2 octets)", { "3", "99" },   "3 messages (99 octets)" },
      { "(%2) %1",                 { "a", "b" },    "(b) a" },
      { "%1%1",                    { "a" },         "aa" },
      { "%2",                      { "a" },         "%2" },
      { "%0 %9 % %",               { "a" },         "%0 %9 % %" },
      { "100%",                    { "a" },         "100%" },
      { "%s %n %d",                { "a" },         "%s %n %d" },
      { "%1",                      { "%1 %2" },     "%1 %2" },
      { "",                        { "a" },         "" },
      { "a\0%1",                   { "\0" },        "a\0\0" },
   }
   for _, case in ipairs(cases) do
      it(("are filled: %q"):format(case[1]), function()
         assert.equal(case[3], fill(256, case[1], table.unpack(case[2])))
      end)
   end

   it("are cut where there is no more room", function()
      for room = 0, 12 do
         assert.equal(("ab12345cd"):sub(1, room), fill(room, "ab%1cd", "12345"))
      end
   end)
end)

describe("a language", function()
   local tags = { "de", "de-CH", "pt-BR", "zh", "zh-Hant-TW", "en" }

   -- a client's range, the language that answers it (RFC 4647, section 3.4)
   local cases = {
      { "de",              "de" },
      { "DE",              "de" },
      { "de-ch",           "de-CH" },
      { "de-CH-1996",      "de-CH" },
      { "de-AT",           "de" },
      { "de-AT-x-foo",     "de" },
      { "pt-BR",           "pt-BR" },
      { "zh-Hant-TW",      "zh-Hant-TW" },
      { "zh-Hant-HK",      "zh" },
      { "zh-x-private",    "zh" },
      { "en-GB",           "en" },
   }
   for _, case in ipairs(cases) do
      it(("%s is answered by %s"):format(case[1], case[2]), function()
         assert.equal(case[2], find(case[1], table.unpack(tags)))
      end)
   end

   for _, range in ipairs { "pt", "d", "den", "x", "-", "--", "-de", "*-CH", "de\0", "fr-CH", "dezh" } do
      it(("%q is answered by none"):format(range), function()
         assert.is_nil(find(range, table.unpack(tags)))
      end)
   end
end)

describe("UTF-8", function()
   local good = { "", "a", "\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}", "\u{ffff}", "\u{10000}",
      "\u{10ffff}", "J\u{f6}rg", "\0" }
   for _, text in ipairs(good) do
      it(("is %q"):format(text), function()
         assert.is_true(is_utf8(text))
         assert.is_true(is_utf8(text .. text))
      end)
   end

   -- RFC 3629: stray and missing octets, shorter forms, surrogates, too great
   local bad = { "\x80", "\xbf", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80",
      "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
      "\xf5\x80\x80\x80", "\xff", "\xfe", "J\xf6rg", "\xc3\xc3", "\xe2\x28\xa1", "\xf0\x9f\x28\x80" }
   for _, text in ipairs(bad) do
      it(("is not %q"):format(text), function()
         assert.is_false(is_utf8(text))
         assert.is_false(is_utf8("a" .. text .. "a"))
      end)
   end

   it("is what Lua takes for it", function()
      math.randomseed(3629)
      for _ = 1, 3000 do
         local octets = {}
         for i = 1, math.random(1, 6) do
            octets[i] = string.char(math.random(4) == 1 and math.random(0, 255) or math.random(0x80, 0xf5))
         end
         local text = table.concat(octets)
         assert.equal(utf8.len(text) ~= nil, is_utf8(text), ("%q"):format(text))
      end
   end)
end)
