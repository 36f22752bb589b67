/*
 * say - status lines to a session's client, in its language.
 *
 * Pure.  Texts are English and keys at once (texts.h).  What returns a need
 * returns NEED_LINE: the command ends with this reply.
 */
#ifndef POPD_SAY_H
#define POPD_SAY_H

#include "session.h"

/* Octets that a filled text may have: more than is told, so that the cut is
 * made where it is made well. */
#define SAY_WORDS 1024

/* A text as the client reads it; itself where there is no translation. */
struct slice say_translated(const struct session *s, struct slice english);
struct slice say_words(const struct session *s, const char *english);

/* The same with values in the places %1, %2, …, which are filled in after the
 * translation; `words` has SAY_WORDS. */
struct slice say_fill(const struct session *s, const char *english, const struct slice *values, size_t n,
                      char *words);

/* Appends a status line with words that are translated already, or one with any
 * octets, which are translated first; reply_fault bits.  code: NULL is none. */
unsigned say_line(bool is_ok, const char *code, struct slice words, struct buf *out);
unsigned say_text(const struct session *s, bool is_ok, const char *code, const char *text, size_t len,
                  struct buf *out);

/* +OK, -ERR, -ERR [SYS/TEMP]. */
enum need say_ok(const struct session *s, const char *english, struct buf *out);
enum need say_err(const struct session *s, const char *english, struct buf *out);
enum need say_temporary(const struct session *s, const char *english, struct buf *out);

/* +OK with numbers in the places of the text. */
enum need say_numbers(const struct session *s, const char *english, uint64_t first, uint64_t second,
                      struct buf *out);

/* +OK with what programs read: the same in every language. */
enum need say_fact(struct buf *out, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

#endif
