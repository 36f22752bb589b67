#include "mboxscan.h"

#include "digest.h"

#include <string.h>
#include <strings.h>

#define LENGTH_DIGITS 15
#define UIDL_MAX 70

/* From_ lines ------------------------------------------------------------------ */

/* What is left of a line. */
struct rest {
    const char *at, *end;
};

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
skip_blanks(struct rest *r)
{
    const char *from = r->at;

    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t'))
        r->at++;
    return r->at > from;
}

/* Takes one of the words, each of three letters. */
static bool
take_word(struct rest *r, const char *words)
{
    for (; *words; words += 3)
        if (r->end - r->at >= 3 && memcmp(r->at, words, 3) == 0) {
            r->at += 3;
            return true;
        }
    return false;
}

static bool
take_digits(struct rest *r, int least, int most)
{
    int n = 0;

    while (r->at < r->end && n < most && is_digit(*r->at)) {
        r->at++;
        n++;
    }
    return n >= least;
}

static bool
take_char(struct rest *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* 10:59 or 10:59:59 */
static bool
take_time(struct rest *r)
{
    if (!take_digits(r, 1, 2) || !take_char(r, ':') || !take_digits(r, 2, 2))
        return false;
    return !take_char(r, ':') || take_digits(r, 2, 2);
}

/* A year, perhaps behind one or two names of a time zone. */
static bool
take_year(struct rest *r)
{
    for (int words = 0; words < 3; words++) {
        struct rest year = *r;

        if (take_digits(&year, 4, 4) && (year.at == year.end || !is_digit(*year.at)))
            return true;
        while (r->at < r->end && *r->at != ' ' && *r->at != '\t')
            r->at++;
        if (!skip_blanks(r))
            return false;
    }
    return false;
}

/* Thu Jan  1 00:00:00 1970 */
static bool
is_date(struct rest r)
{
    return take_word(&r, "MonTueWedThuFriSatSun") && skip_blanks(&r) &&
           take_word(&r, "JanFebMarAprMayJunJulAugSepOctNovDec") && skip_blanks(&r) &&
           take_digits(&r, 1, 2) && skip_blanks(&r) && take_time(&r) && skip_blanks(&r) && take_year(&r);
}

static bool
has_from(const char *line, size_t n)
{
    return n >= 5 && memcmp(line, "From ", 5) == 0;
}

/* The line's own part of text. */
static size_t
line_len(const char *text, size_t n)
{
    const char *lf = memchr(text, '\n', n);

    n = lf ? (size_t)(lf - text) : n;
    return n && text[n - 1] == '\r' ? n - 1 : n;
}

/* A sender may have blanks in it, so the date is looked for behind each. */
bool
mboxscan_is_from(const char *line, size_t n)
{
    struct rest r;

    if (!has_from(line, n))
        return false;
    r = (struct rest){line + 5, line + line_len(line, n)};
    while (r.at < r.end) {
        if (is_date(r))
            return true;
        while (r.at < r.end && *r.at != ' ' && *r.at != '\t')
            r.at++;
        skip_blanks(&r);
    }
    return false;
}

static bool
take_line_end(struct rest *r)
{
    if (r->end - r->at >= 2 && r->at[0] == '\r' && r->at[1] == '\n') {
        r->at += 2;
        return true;
    }
    return take_char(r, '\n');
}

bool
mboxscan_is_end(const char *text, size_t n)
{
    struct rest r = {text, text + n};

    if (take_line_end(&r))
        take_line_end(&r);
    return r.at == r.end || mboxscan_is_from(r.at, (size_t)(r.end - r.at));
}

/* The sum of a body ------------------------------------------------------------- */

static uint64_t
mix(uint64_t state, uint64_t word)
{
    state = (state ^ word) * UINT64_C(0x9fb21c651e98df25);
    return state ^ state >> 32;
}

/* The same on every machine. */
static uint64_t
load(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    return (uint64_t)u[0] | (uint64_t)u[1] << 8 | (uint64_t)u[2] << 16 | (uint64_t)u[3] << 24 |
           (uint64_t)u[4] << 32 | (uint64_t)u[5] << 40 | (uint64_t)u[6] << 48 | (uint64_t)u[7] << 56;
}

static void
sum_octet(struct mboxscan_sum *sum, char octet)
{
    sum->word |= (uint64_t)(unsigned char)octet << (8 * sum->fill);
    if (++sum->fill == 8) {
        sum->state = mix(sum->state, sum->word);
        sum->word = sum->fill = 0;
    }
}

static void
sum_add(struct mboxscan_sum *sum, const char *p, size_t n)
{
    for (; n && sum->fill; n--)
        sum_octet(sum, *p++);
    for (; n >= 8; n -= 8, p += 8)
        sum->state = mix(sum->state, load(p));
    for (; n; n--)
        sum_octet(sum, *p++);
}

/* A line's end, which no octets of a line can look like. */
static void
sum_line(struct mboxscan_sum *sum)
{
    sum->state = mix(mix(sum->state, sum->word), sum->fill + 1);
    sum->word = sum->fill = 0;
}

/* Messages ---------------------------------------------------------------------- */

void
mboxscan_init(struct mboxscan *s, enum mboxscan_format format, uint64_t offset)
{
    memset(s, 0, sizeof *s);
    s->format = format;
    s->at = offset;
}

void
mboxscan_clear(struct mboxscan *s)
{
    digest_free(s->digest);
    s->digest = NULL;
}

static int
hex_value(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static bool
make_id(struct mboxscan *s)
{
    unsigned char sum[8];
    char hex[DIGEST_SHA256_HEX + 1];

    for (int i = 0; i < 8; i++)
        sum[i] = (unsigned char)(s->sum.state >> (8 * i));
    if (!digest_add(s->digest, sum, sizeof sum) || !digest_hex(s->digest, hex))
        return false;
    for (int i = 0; i < MBOXSCAN_ID; i++)
        s->mail.id[i] = (unsigned char)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
    return true;
}

/* The blank line turned out to be the body's. */
static void
keep_blank(struct mboxscan *s)
{
    if (s->blank)
        s->mail.octets += 2;
    s->blank = false;
}

/* The message ends before the octet that comes next. */
static bool
finish(struct mboxscan *s)
{
    bool ok;

    if (s->place == MBOXSCAN_OUTSIDE)
        return true;
    if (s->blank && s->blank_at < s->sure_to)
        keep_blank(s);
    s->mail.end = s->blank ? s->blank_at : s->at;
    if (s->place == MBOXSCAN_FROM)
        s->mail.head = s->at;
    if (s->place != MBOXSCAN_BODY)
        s->mail.body = s->mail.end;
    ok = make_id(s) && s->found(s->owner, &s->mail);
    mboxscan_clear(s);
    s->place = MBOXSCAN_OUTSIDE;
    return ok;
}

static bool
begin(struct mboxscan *s)
{
    if (!finish(s))
        return false;
    s->mail = (struct mboxscan_mail){.start = s->at};
    s->sum = (struct mboxscan_sum){0};
    s->blank = s->has_length = s->hidden = false;
    s->blanks = s->sure_to = 0;
    s->place = MBOXSCAN_FROM;
    s->digest = digest_new();
    return s->digest != NULL;
}

/* Fields ------------------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t len;
} rewritten[] = {
#define FIELD(name)                                                                                          \
    {                                                                                                        \
        name, sizeof name - 1                                                                                \
    }
    FIELD("Status"),         FIELD("X-Status"),         FIELD("X-UID"),
    FIELD("X-UIDL"),         FIELD("X-Keywords"),       FIELD("X-IMAP"),
    FIELD("X-IMAPbase"),     FIELD("X-Mozilla-Status"), FIELD("X-Mozilla-Status2"),
    FIELD("X-Mozilla-Keys"), FIELD("Content-Length"),   FIELD("Lines"),
#undef FIELD
};

static bool
is_field(const char *line, size_t n, const char *name, size_t len)
{
    return n > len && line[len] == ':' && strncasecmp(line, name, len) == 0;
}

static bool
is_rewritten(const char *line, size_t n)
{
    for (size_t i = 0; i < sizeof rewritten / sizeof *rewritten; i++)
        if (is_field(line, n, rewritten[i].name, rewritten[i].len))
            return true;
    return false;
}

/* A field's value without blanks around it, if the line is all there. */
static bool
find_value(const char *line, size_t n, size_t name_len, struct rest *value)
{
    if (!memchr(line, '\n', n))
        return false;
    *value = (struct rest){line + name_len + 1, line + line_len(line, n)};
    skip_blanks(value);
    while (value->end > value->at && (value->end[-1] == ' ' || value->end[-1] == '\t'))
        value->end--;
    return true;
}

static void
note_length(struct mboxscan *s, const char *line, size_t n)
{
    struct rest value;
    uint64_t length = 0;

    if (s->has_length || !find_value(line, n, strlen("Content-Length"), &value) || value.at == value.end ||
        value.end - value.at > LENGTH_DIGITS)
        return;
    for (; value.at < value.end; value.at++) {
        if (!is_digit(*value.at))
            return;
        length = length * 10 + (uint64_t)(*value.at - '0');
    }
    s->has_length = true;
    s->length = length;
}

static void
note_uidl(struct mboxscan *s, const char *line, size_t n)
{
    struct rest value;
    uint64_t at;

    if (s->mail.uidl || !find_value(line, n, strlen("X-UIDL"), &value))
        return;
    at = s->at - s->mail.head + (uint64_t)(value.at - line);
    if (value.at == value.end || value.end - value.at > UIDL_MAX || at > UINT16_MAX)
        return;
    for (const char *p = value.at; p < value.end; p++)
        if (*p < 0x21 || *p > 0x7e)
            return;
    s->mail.uidl = (uint16_t)at;
    s->mail.uidl_len = (uint8_t)(value.end - value.at);
}

static void
begin_field(struct mboxscan *s, const char *line, size_t n)
{
    if (n && (*line == ' ' || *line == '\t'))
        return;
    s->hidden = is_rewritten(line, n);
    if (is_field(line, n, "Content-Length", strlen("Content-Length")))
        note_length(s, line, n);
    else if (is_field(line, n, "X-UIDL", strlen("X-UIDL")))
        note_uidl(s, line, n);
}

/* Lines ------------------------------------------------------------------------- */

static bool
is_blank(const char *line, size_t n)
{
    return (n == 1 && line[0] == '\n') || (n == 2 && line[0] == '\r' && line[1] == '\n');
}

static bool
is_stuffed(const char *line, size_t n)
{
    size_t quotes = 0;

    while (quotes < n && quotes <= MBOXSCAN_QUOTES && line[quotes] == '>')
        quotes++;
    return quotes && quotes <= MBOXSCAN_QUOTES && has_from(line + quotes, n - quotes);
}

static void
begin_body_line(struct mboxscan *s, const char *line, size_t n)
{
    keep_blank(s);
    s->blank_line = is_blank(line, n);
    if (s->blank_line) {
        s->blank = true;
        s->blank_at = s->at;
        s->blanks++;
        return;
    }
    if (s->blanks)
        s->sum.state = mix(s->sum.state, s->blanks);
    s->blanks = 0;
    if (s->format == MBOXSCAN_RD && is_stuffed(line, n)) {
        s->mail.stuffed = true;
        s->mail.octets--;
    }
}

/* The line's start, MBOXSCAN_PEEK octets of it or the whole line. */
static bool
begin_line(struct mboxscan *s, const char *line, size_t n)
{
    s->cr = s->blank_line = false;
    if (s->at >= s->sure_to && has_from(line, n) && (s->at == 0 || mboxscan_is_from(line, n)))
        return begin(s);
    if (s->place == MBOXSCAN_HEAD && !is_blank(line, n))
        begin_field(s, line, n);
    else if (s->place == MBOXSCAN_HEAD)
        s->blank_line = true;
    else if (s->place == MBOXSCAN_BODY)
        begin_body_line(s, line, n);
    return true;
}

/* Takes text, a line or a part of one, without its LF, into what the id is made of. */
static bool
add_text(struct mboxscan *s, const char *text, size_t n)
{
    if (s->place == MBOXSCAN_BODY)
        sum_add(&s->sum, text, n);
    else if (s->place != MBOXSCAN_OUTSIDE && !s->hidden)
        return digest_add(s->digest, text, n);
    return true;
}

static void
begin_body(struct mboxscan *s)
{
    s->place = MBOXSCAN_BODY;
    s->mail.body = s->at;
    if (s->format == MBOXSCAN_CL && s->has_length && s->ends_at(s->owner, s->at + s->length))
        s->sure_to = s->at + s->length;
}

/* The line is over; `open`: the file ends without an LF. */
static bool
end_line(struct mboxscan *s, bool open)
{
    s->in_line = false;
    if (s->place == MBOXSCAN_FROM || (s->place == MBOXSCAN_HEAD && !s->hidden && !s->blank_line)) {
        if (!digest_add(s->digest, "\n", 1))
            return false;
    } else if (s->place == MBOXSCAN_BODY && !s->blank_line) {
        sum_line(&s->sum);
    }
    if (open && s->place != MBOXSCAN_FROM)
        s->mail.octets += 2;
    if (s->place == MBOXSCAN_FROM) {
        s->place = MBOXSCAN_HEAD;
        s->mail.head = s->at;
    } else if (s->place == MBOXSCAN_HEAD && s->blank_line) {
        begin_body(s);
    }
    return true;
}

/* Counts what the part is on the wire; a blank line of a body waits for the next. */
static void
count(struct mboxscan *s, const char *part, size_t n, bool ended)
{
    bool cr = n >= 1 + (size_t)ended ? part[n - 1 - ended] == '\r' : s->cr;

    if (s->place == MBOXSCAN_OUTSIDE)
        s->outside += n;
    else if (s->place != MBOXSCAN_FROM && !(s->place == MBOXSCAN_BODY && s->blank_line))
        s->mail.octets += n + (ended && !cr);
    s->cr = cr;
}

/* A line, or a part of one: the first has MBOXSCAN_PEEK octets at least, or all. */
static bool
take(struct mboxscan *s, const char *part, size_t n, bool ended)
{
    if (!s->in_line && !begin_line(s, part, n < MBOXSCAN_PEEK ? n : MBOXSCAN_PEEK))
        return false;
    s->in_line = true;
    if (!s->blank_line && !add_text(s, part, n - ended))
        return false;
    count(s, part, n, ended);
    s->at += n;
    return !ended || end_line(s, false);
}

/* The start of a line that is cut: how much of in[0..n) was taken. */
static size_t
hold(struct mboxscan *s, const char *in, size_t n)
{
    size_t room = sizeof s->held - s->held_len;
    const char *lf;

    n = n < room ? n : room;
    lf = memchr(in, '\n', n);
    n = lf ? (size_t)(lf - in) + 1 : n;
    memcpy(s->held + s->held_len, in, n);
    s->held_len += n;
    return n;
}

static bool
take_held(struct mboxscan *s)
{
    size_t n = s->held_len;
    bool ended = n && s->held[n - 1] == '\n';

    if (!ended && n < sizeof s->held)
        return true;
    s->held_len = 0;
    return take(s, s->held, n, ended);
}

bool
mboxscan_feed(struct mboxscan *s, const char *in, size_t n)
{
    while (n) {
        const char *lf = memchr(in, '\n', n);
        size_t len = lf ? (size_t)(lf - in) + 1 : n;
        bool ok;

        if (!s->in_line && (s->held_len || (!lf && len < MBOXSCAN_PEEK))) {
            len = hold(s, in, len);
            ok = take_held(s);
        } else {
            ok = take(s, in, len, lf != NULL);
        }
        if (!ok)
            return false;
        in += len;
        n -= len;
    }
    return true;
}

bool
mboxscan_end(struct mboxscan *s)
{
    size_t held = s->held_len;

    s->held_len = 0;
    if (held && !take(s, s->held, held, false))
        return false;
    if (s->in_line && !end_line(s, true))
        return false;
    return finish(s);
}
