/*
 * digest - hashes, keyed hashes and comparisons, over mbedTLS (RFC 1939,
 * section 7: APOP; RFC 2104: HMAC; RFC 8018, section 5.2: PBKDF2).
 *
 * Pure.
 */
#ifndef POPD_DIGEST_H
#define POPD_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#define DIGEST_MD5_HEX 32
#define DIGEST_SHA256_HEX 64

/* Writes two lower-case hex digits for each octet, and a NUL. */
void digest_to_hex(const void *octets, size_t n, char *hex);

/* Writes the digest of data as lower-case hex digits and a NUL; hex has room
 * for them.  False: the library refuses (MD5 may be switched off). */
bool digest_md5(const void *data, size_t n, char hex[DIGEST_MD5_HEX + 1]);
bool digest_sha256(const void *data, size_t n, char hex[DIGEST_SHA256_HEX + 1]);

enum digest_kind { DIGEST_MD5, DIGEST_SHA1, DIGEST_SHA256, DIGEST_SHA384, DIGEST_SHA512 };
#define DIGEST_MAX 64 /* octets of the longest */

/* "MD5", "SHA-1", "SHA-256", "SHA-384", "SHA-512" -> a kind; false: none. */
bool digest_find(const char *name, enum digest_kind *kind);

/* How many octets it has. */
size_t digest_size(enum digest_kind kind);

/* Write digest_size(kind) octets to out.  False: the library refuses. */
bool digest_hash(enum digest_kind kind, const void *data, size_t n, unsigned char *out);
bool digest_hmac(enum digest_kind kind, const void *key, size_t key_len, const void *data, size_t n,
                 unsigned char *out);

/* PBKDF2 with HMAC: writes n octets to out.  Slow by intent: off the loop. */
bool digest_pbkdf2(enum digest_kind kind, const void *password, size_t password_len, const void *salt,
                   size_t salt_len, unsigned iterations, unsigned char *out, size_t n);

/* A SHA-256 made from pieces. */
struct digest; /* heap */
struct digest *digest_new(void);
void digest_free(struct digest *d);
bool digest_add(struct digest *d, const void *data, size_t n);
bool digest_hex(struct digest *d, char hex[DIGEST_SHA256_HEX + 1]);

/* Whether a and b hold the same bytes.  The time taken depends on b's length
 * alone: call it with what the client sent as b. */
bool digest_equal(const void *a, size_t a_len, const void *b, size_t b_len);

/* APOP's check: whether digest[0..len) is the MD5 in hex, of any case, of the
 * stamp followed by the secret.  Constant time. */
bool digest_apop(const char *stamp, const char *secret, size_t secret_len, const char *digest, size_t len);

/* Overwrites a secret so that no compiler leaves it out. */
void digest_wipe(void *secret, size_t n);

#endif
