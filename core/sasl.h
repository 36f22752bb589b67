/*
 * sasl - what clients send within AUTH, taken apart: PLAIN (RFC 4616),
 * CRAM-MD5 (RFC 2195), SCRAM (RFC 5802, section 7), OAUTHBEARER (RFC 7628,
 * section 3.1) and XOAUTH2.
 *
 * Pure, no allocation: memory in, slices of that memory out.  Strict: whatever
 * the grammar does not have is refused, as are octets that are no UTF-8, empty
 * names and secrets, and fields that are too long.  Nothing is prepared or
 * compared here, and no base64 taken off.
 */
#ifndef POPD_SASL_H
#define POPD_SASL_H

#include "slice.h"

#include <stdbool.h>

/* The most octets of a name (with its escapes), of a password and of a nonce;
 * tokens have none but the message's. */
#define SASL_NAME_MAX 1024
#define SASL_SECRET_MAX 1024
#define SASL_NONCE_MAX 1024

enum sasl_kind {
    SASL_PLAIN,       /* authzid, name, secret */
    SASL_CRAM_MD5,    /* name, digest */
    SASL_SCRAM_FIRST, /* gs2, flag, binding, authzid, name, nonce, bare */
    SASL_SCRAM_FINAL, /* channel, nonce, proof, bare */
    SASL_OAUTHBEARER, /* gs2, flag, authzid, secret */
    SASL_XOAUTH2      /* name, secret */
};

/* The fields that a kind has; others are empty.  A field that may be absent is
 * empty then. */
struct sasl {
    struct slice authzid; /* whom to act as; with escapes where the kind has gs2 */
    struct slice name;    /* SCRAM: with escapes */
    struct slice secret;  /* a password; or a bearer token, empty: the client asks where to get one */
    struct slice digest;  /* 32 hex digits */
    struct slice gs2;     /* the header, both commas with it */
    struct slice flag;    /* "n", "y" or "p" */
    struct slice binding; /* the name of the channel binding that "p" asks for */
    struct slice nonce;
    struct slice channel; /* c=, base64 */
    struct slice proof;   /* base64 */
    struct slice bare;    /* what goes into SCRAM's AuthMessage: all behind gs2; all before ",p=" */
};

/* "PLAIN", "CRAM-MD5", "SCRAM-FIRST", "SCRAM-FINAL", "OAUTHBEARER", "XOAUTH2"
 * -> a kind; false: none. */
bool sasl_find(const char *name, enum sasl_kind *kind);

/* Takes in[0..n) apart.  False: *why says what is wrong, a static string that
 * holds nothing of what was sent. */
bool sasl_parse(enum sasl_kind kind, const char *in, size_t n, struct sasl *s, const char **why);

/* Takes the escapes =2C and =3D out of a name that sasl_parse let pass: writes
 * at most its length to out, and returns how much. */
size_t sasl_unescape(struct slice name, char *out);

#endif
