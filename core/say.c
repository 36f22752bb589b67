#include "say.h"

#include "reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Looked up at each reply: the config may have changed since LANG. */
struct slice
say_translated(const struct session *s, struct slice english)
{
    const struct session_config *config = s->config;
    const struct language *l = NULL;

    if (s->lang[0])
        l = language_find(config->languages, config->language_count, texts_slice(s->lang));
    return language_text(l, english);
}

struct slice
say_words(const struct session *s, const char *english)
{
    return say_translated(s, texts_slice(english));
}

unsigned
say_line(bool is_ok, const char *code, struct slice text, struct buf *out)
{
    return reply_text(out, is_ok, code, code ? strlen(code) : 0, text.at, text.len);
}

unsigned
say_text(const struct session *s, bool is_ok, const char *code, const char *text, size_t len, struct buf *out)
{
    return say_line(is_ok, code, say_translated(s, (struct slice){text, len}), out);
}

struct slice
say_fill(const struct session *s, const char *english, const struct slice *values, size_t n, char *words)
{
    return (struct slice){words, texts_fill(words, SAY_WORDS, say_words(s, english), values, n)};
}

enum need
say_ok(const struct session *s, const char *english, struct buf *out)
{
    say_line(true, NULL, say_words(s, english), out);
    return NEED_LINE;
}

enum need
say_err(const struct session *s, const char *english, struct buf *out)
{
    say_line(false, NULL, say_words(s, english), out);
    return NEED_LINE;
}

enum need
say_temporary(const struct session *s, const char *english, struct buf *out)
{
    say_line(false, "SYS/TEMP", say_words(s, english), out);
    return NEED_LINE;
}

enum need
say_numbers(const struct session *s, const char *english, uint64_t first, uint64_t second, struct buf *out)
{
    char words[SAY_WORDS], a[SLICE_DECIMAL], b[SLICE_DECIMAL];
    const struct slice values[2] = {{a, slice_decimal(a, first)}, {b, slice_decimal(b, second)}};

    say_line(true, NULL, say_fill(s, english, values, 2, words), out);
    return NEED_LINE;
}

enum need
say_fact(struct buf *out, const char *format, ...)
{
    char text[REPLY_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    reply_ok(out, text);
    return NEED_LINE;
}
