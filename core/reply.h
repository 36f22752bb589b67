/*
 * reply - what the server says (RFC 1939, section 3; RFC 2449, sections 4, 8).
 *
 * Pure.  Whatever text it is given, what it appends is one well-formed reply:
 * control octets become '?', a status line has at most 512 octets with its
 * CRLF (cut without splitting a UTF-8 sequence), a code that is not of RFC
 * 2449's grammar is left out, a '[' that would begin a code but is a text's
 * first octet becomes '?', an item that starts with a dot is stuffed.
 */
#ifndef POPD_REPLY_H
#define POPD_REPLY_H

#include "buf.h"
#include <stdint.h>

#define REPLY_MAX 512

/* What a text or code from a script lost on its way; or-ed together. */
enum reply_fault {
    REPLY_CLEAN = 0,
    REPLY_CONTROLS = 1, /* control octets, or a first '[', were replaced */
    REPLY_CUT = 2,      /* it was too long */
    REPLY_BAD_CODE = 4  /* the code was left out */
};

/* Appends "+OK text". */
void reply_ok(struct buf *out, const char *text);

/* Appends "-ERR [CODE] text"; code may be NULL. */
void reply_err(struct buf *out, const char *code, const char *text);

/* The same for texts of a script, of any bytes; returns reply_fault bits.
 * ok: "+OK", else "-ERR"; code NULL: none. */
unsigned reply_text(struct buf *out, bool ok, const char *code, size_t code_len, const char *text,
                    size_t text_len);

/* Appends one line of a multi-line reply, dot-stuffed, with CRLF; cut to
 * REPLY_MAX, as a status line is. */
unsigned reply_line(struct buf *out, const char *text, size_t len);

/* Appends "number value" as a line: LIST's and UIDL's items. */
void reply_item(struct buf *out, uint64_t number, const char *value, size_t len);

/* The same where the value is a number. */
void reply_pair(struct buf *out, uint64_t number, uint64_t value);

/* Ends a multi-line reply. */
void reply_end(struct buf *out);

/* Whether code[0..len) is a response code by RFC 2449's grammar (resp-level
 * parts of printable octets but ']', '/' between them), at most 64 octets. */
bool reply_code_ok(const char *code, size_t len);

#endif
