local prep = require("popd.core").prep

-- text                        what RFC 4013 makes of it
local good = {
   { "I\u{AD}X",               "IX" },   -- section 3, example 1: SOFT HYPHEN goes
   { "user",                   "user" },
   { "USER",                   "USER" }, -- case stays
   { "\u{AA}",                 "a" },    -- NFKC
   { "\u{2168}",               "IX" },   -- NFKC
   { "",                       "" },
   { " a  b ",                 " a  b " },
   { "\u{A0}\u{3000}\u{2003}", "   " },
   { "a\u{1680}b",             "a b" },
   { "a\u{200B}b",             "a b" },
   { "a\u{200C}\u{200D}b",     "ab" },
   { "\u{FEFF}a\u{FE0F}",      "a" },
   { "\u{AD}",                 "" },
   { "e\u{301}",               "\u{E9}" },
   { "\u{E9}",                 "\u{E9}" },
   { "a\u{323}\u{302}",        "\u{1EAD}" },
   { "a\u{302}\u{323}",        "\u{1EAD}" },
   { "\u{1100}\u{1161}\u{11A8}", "\u{AC01}" },
   { "\u{212B}",               "\u{C5}" },
   { "\u{340}a",               "\u{300}a" }, -- prohibited, but NFKC comes first
   { "\u{FB01}",               "fi" },
   { "\u{915}\u{93C}",         "\u{915}\u{93C}" }, -- never composed again
   { "\u{1F511}",              "\u{1F511}" },      -- Unicode 3.2 did not know it
   { "\u{627}\u{31}\u{628}",   "\u{627}1\u{628}" },
   { "\u{5D0}\u{5D1}",         "\u{5D0}\u{5D1}" },
   { ("x"):rep(1024),          ("x"):rep(1024) },
   { ("\u{E9}"):rep(512),      ("\u{E9}"):rep(512) },
}

local CONTROL, MIXED = "has a character that is not allowed", "mixes writing directions"
local LONG, ENCODING = "is too long", "is no UTF-8"

local bad = {
   { "\7",                     CONTROL }, -- section 3, example 6
   { "\u{627}1",               MIXED },   -- section 3, example 7
   { "a\0b", CONTROL }, { "a\n", CONTROL }, { "\127", CONTROL }, { "\u{85}", CONTROL },
   { "\u{2028}", CONTROL }, { "\u{E000}", CONTROL }, { "\u{FFFD}", CONTROL }, { "\u{200E}a", CONTROL },
   { "\u{FDD0}", CONTROL }, { "\u{1FFFE}", CONTROL }, { "\u{10FFFF}", CONTROL }, { "\u{E0041}", CONTROL },
   { "\u{2FF0}", CONTROL }, { "\u{6DD}", CONTROL }, { "\u{1D173}", CONTROL }, { "\u{F0000}", CONTROL },
   { "\u{E9}\0", CONTROL }, { "\u{E9}\9", CONTROL }, { "\u{202E}\u{E9}", CONTROL },
   { "\u{627}a\u{628}", MIXED }, { "1\u{5D0}", MIXED }, { "\u{5D0} ", MIXED },
   { "\255", ENCODING }, { "a\195", ENCODING }, { "\192\128", ENCODING }, { "\237\160\128", ENCODING },
   { "\244\144\128\128", ENCODING }, { "\224\128\128", ENCODING }, { "\u{E9}\128", ENCODING },
   { ("x"):rep(1025), LONG }, { ("\u{FDFA}"):rep(341), LONG }, { ("\u{FB03}"):rep(600), LONG },
}

describe("prep", function()
   for _, case in ipairs(good) do
      it(("makes %q of %q"):format(case[2], case[1]), function()
         assert.equal(case[2], prep(case[1]))
      end)

      it(("changes nothing of %q"):format(case[2]), function()
         assert.equal(case[2], prep(case[2]))
      end)
   end

   for _, case in ipairs(bad) do
      it(("says that %q %s"):format(case[1], case[2]), function()
         assert.same({ nil, case[2] }, { prep(case[1]) })
      end)
   end
end)
