/*
 * log - one event, one line.
 *
 *     2026-01-31T12:00:00Z warning "login refused" conn=12 peer=192.0.2.1
 *
 * Octets that could forge a line are written as \xNN, line ends as \n.  Lines
 * go to standard error, or to a sink.  Never a secret: callers see to it.
 */
#ifndef POPD_LOG_H
#define POPD_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_NONE };

/* Logs a text with pairs of (const char *key, const char *value), ended by
 * NULL; a pair whose value is NULL is left out. */
void log_event(enum log_level level, const char *text, ...)
#if defined(__GNUC__)
    __attribute__((sentinel))
#endif
    ;

/* Logs n pairs, with lengths; values may hold any bytes. */
struct log_pair {
    const char *key, *value;
    size_t len;
};
void log_pairs(enum log_level level, const char *text, size_t len, const struct log_pair *pairs, size_t n);

/* Events below are dropped, in all threads.  LOG_WARNING at first. */
void log_set_least(enum log_level level);

/* Whether an event of this level is not dropped: to spare its making. */
bool log_wants(enum log_level level);

/* Where this thread's lines go: sink(owner, level, line, length), without a line
 * end; NULL: standard error.  The sink must not raise. */
void log_set_sink(void (*sink)(void *owner, enum log_level level, const char *line, size_t len), void *owner);

/* Standard error again, if the sink is that owner's. */
void log_forget_sink(void *owner);

/* "debug", "info", "warning", "error", "none"; and back, or -1. */
const char *log_level_name(enum log_level level);
int log_level_find(const char *name);

#endif
