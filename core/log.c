#include "log.h"

#include "buf.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 8

static const char *const names[] = {"debug", "info", "warning", "error", "none"};

/* The process has one log, as it has one standard error. */
static atomic_int least = LOG_WARNING;

/* But a sink is its thread's: it may belong to a Lua state that works there. */
static _Thread_local struct {
    void (*sink)(void *, enum log_level, const char *, size_t);
    void *owner; /* borrowed from whoever set the sink */
} here;

void
log_set_least(enum log_level level)
{
    atomic_store(&least, (int)level);
}

bool
log_wants(enum log_level level)
{
    return (int)level >= atomic_load(&least) && level < LOG_NONE;
}

void
log_set_sink(void (*sink)(void *, enum log_level, const char *, size_t), void *owner)
{
    here.sink = sink;
    here.owner = owner;
}

void
log_forget_sink(void *owner)
{
    if (here.owner == owner)
        log_set_sink(NULL, NULL);
}

const char *
log_level_name(enum log_level level)
{
    return names[level];
}

int
log_level_find(const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return (int)i;
    return -1;
}

/* As many octets of text as stand for themselves. */
static size_t
plain_run(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && (unsigned char)text[n] >= 0x20 && text[n] != 0x7f && text[n] != '"' && text[n] != '\\')
        n++;
    return n;
}

static void
add_escaped(struct buf *line, const char *text, size_t len)
{
    while (len > 0) {
        size_t n = plain_run(text, len);

        buf_add(line, text, n);
        text += n;
        len -= n;
        if (len == 0)
            return;
        if (*text == '\n')
            buf_puts(line, "\\n");
        else if (*text == '"' || *text == '\\')
            buf_printf(line, "\\%c", *text);
        else
            buf_printf(line, "\\x%02x", (unsigned char)*text);
        text++;
        len--;
    }
}

static void
add_value(struct buf *line, const char *value, size_t len)
{
    bool quoted =
        len == 0 || plain_run(value, len) < len || memchr(value, ' ', len) || memchr(value, '=', len);

    if (quoted)
        buf_add(line, "\"", 1);
    add_escaped(line, value, len);
    if (quoted)
        buf_add(line, "\"", 1);
}

/* " key=", of letters, digits and a few signs. */
static void
add_key(struct buf *line, const char *key)
{
    buf_puts(line, " ");
    for (; *key; key++)
        buf_add(line, isalnum((unsigned char)*key) || strchr("_.-", *key) ? key : "_", 1);
    buf_puts(line, "=");
}

static void
add_time(struct buf *line)
{
    char text[sizeof "2026-01-31T12:00:00Z"];
    time_t now = time(NULL);
    struct tm utc;

    gmtime_r(&now, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    buf_puts(line, text);
}

static void
send_line(enum log_level level, struct buf *line)
{
    if (here.sink) {
        here.sink(here.owner, level, line->data, line->len);
        return;
    }
    buf_add(line, "\n", 1);
    if (line->failed || write(STDERR_FILENO, line->data, line->len) < 0)
        return; /* there is nobody left to tell */
}

void
log_pairs(enum log_level level, const char *text, size_t len, const struct log_pair *pairs, size_t n)
{
    struct buf line = {0};

    if (!log_wants(level))
        return;
    add_time(&line);
    buf_printf(&line, " %s ", names[level]);
    add_value(&line, text, len);
    for (size_t i = 0; i < n; i++) {
        add_key(&line, pairs[i].key);
        add_value(&line, pairs[i].value, pairs[i].len);
    }
    if (!line.failed)
        send_line(level, &line);
    buf_clear(&line);
}

void
log_event(enum log_level level, const char *text, ...)
{
    struct log_pair pairs[PAIRS_MAX];
    size_t n = 0;
    const char *key;
    va_list list;

    va_start(list, text);
    while ((key = va_arg(list, const char *)) && n < PAIRS_MAX) {
        const char *value = va_arg(list, const char *);

        if (value)
            pairs[n++] = (struct log_pair){key, value, strlen(value)};
    }
    va_end(list);
    log_pairs(level, text, strlen(text), pairs, n);
}
