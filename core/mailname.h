/*
 * mailname - one file's name in a Maildir, and what it tells.
 *
 * Pure, no allocation.  A name is base[:flags]; the base is the message's for
 * ever, and may tell its octets as stored (",S=n") and as sent (",W=n").
 */
#ifndef POPD_MAILNAME_H
#define POPD_MAILNAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Octets as stored, and as sent, in one number: sending adds one octet to each
 * bare line feed, and at most two at the end. */
#define MAILSIZE_UNKNOWN UINT64_MAX
#define MAILSIZE_ADDED_BITS 26

/* Packs them.  MAILSIZE_UNKNOWN: no file can have these, or they are too big
 * (256 GiB, or 64 million lines). */
uint64_t mailsize_pack(uint64_t stored, uint64_t sent);
uint64_t mailsize_stored(uint64_t size);
uint64_t mailsize_sent(uint64_t size);

/* The number that a name starts with: when it was delivered; UINT64_MAX: none. */
uint64_t mailname_time(const char *name, size_t len);

/* How many octets of a name are its base. */
size_t mailname_base(const char *name, size_t len);

/* Whether there is a flag (after ":2,") in a name. */
bool mailname_has_flag(const char *name, size_t len, char flag);

/* What a base tells; MAILSIZE_UNKNOWN where it does not, or tells what cannot
 * be, or what would need a look at each line (sent as stored). */
uint64_t mailname_told(const char *base, size_t len);

/* Whether POP3 can send it as a unique-id: 1 to 70 octets, all of them visible. */
bool mailname_is_uid(const char *text, size_t len);

/* Below 0, 0, above 0: by the numbers that both start with, however long; by
 * their octets. */
int mailname_compare_numbers(const char *a, size_t a_len, const char *b, size_t b_len);
int mailname_compare(const char *a, size_t a_len, const char *b, size_t b_len);

uint64_t mailname_hash(const char *base, size_t len);

enum mailname_flag {
    MAILNAME_CUR = 1,    /* in cur, else in new */
    MAILNAME_HASHED = 2, /* its unique-id stands behind its name */
    MAILNAME_SAME = 4,   /* others have the same base */
    MAILNAME_TOLD = 8    /* its size is what the name tells, and not looked at yet */
};

/* A name in a list's text. */
struct mailname {
    uint64_t size; /* see mailsize; or MAILSIZE_UNKNOWN */
    uint32_t at;   /* in text, with a NUL behind it */
    uint8_t len;   /* of the name */
    uint8_t base;  /* of it */
    uint8_t flags;
    uint8_t uid_len; /* 1 to 70 */
};

/* Whether a row's size is known for certain. */
bool mailname_is_known(const struct mailname *row);

/* Where a row's unique-id stands in text. */
size_t mailname_uid_at(const struct mailname *row);

#endif
