/* sasl_parse: the first octet chooses the kind, the rest is the message.  What
 * it takes lies within the message, and makes the message again when it is put
 * together; names survive their escapes. */
#include "../core/sasl.h"

#include "../core/prep.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* The part of the message that was not accounted for yet. */
struct rest {
    const char *at;
    size_t len;
};

static void
pass(struct rest *r, const char *octets, size_t n)
{
    must(r->len >= n && memcmp(r->at, octets, n) == 0);
    r->at += n;
    r->len -= n;
}

static void
pass_text(struct rest *r, const char *text)
{
    pass(r, text, strlen(text));
}

/* A slice that stands just here, not only the same octets elsewhere. */
static void
pass_slice(struct rest *r, struct slice s)
{
    if (s.len == 0)
        return;
    must(s.at == r->at);
    pass(r, s.at, s.len);
}

static void
check_plain(struct rest *r, const struct sasl *s)
{
    pass_slice(r, s->authzid);
    pass(r, "", 1);
    pass_slice(r, s->name);
    pass(r, "", 1);
    pass_slice(r, s->secret);
    must(s->name.len && s->secret.len);
}

static void
check_cram(struct rest *r, const struct sasl *s)
{
    pass_slice(r, s->name);
    pass_text(r, " ");
    pass_slice(r, s->digest);
    must(s->name.len && s->digest.len == 32);
}

static void
check_gs2(struct rest *r, const struct sasl *s)
{
    struct rest header = {s->gs2.at, s->gs2.len};

    pass_slice(r, s->gs2);
    pass_slice(&header, s->flag);
    pass_text(&header, s->binding.len ? "=" : "");
    pass_slice(&header, s->binding);
    pass_text(&header, s->authzid.len ? ",a=" : ",");
    pass_slice(&header, s->authzid);
    pass_text(&header, ",");
    must(header.len == 0 && s->flag.len == 1);
}

static void
check_first(struct rest *r, const struct sasl *s)
{
    struct rest bare = {s->bare.at, s->bare.len};

    check_gs2(r, s);
    pass_slice(r, s->bare);
    pass_text(&bare, "n=");
    pass_slice(&bare, s->name);
    pass_text(&bare, ",r=");
    pass_slice(&bare, s->nonce);
    must(bare.len == 0 || *bare.at == ',');
    must(s->name.len && s->nonce.len && !memchr(s->nonce.at, ',', s->nonce.len));
}

static void
check_final(struct rest *r, const struct sasl *s)
{
    struct rest bare = {s->bare.at, s->bare.len};

    pass_slice(r, s->bare);
    pass_text(r, ",p=");
    pass_slice(r, s->proof);
    pass_text(&bare, "c=");
    pass_slice(&bare, s->channel);
    pass_text(&bare, ",r=");
    pass_slice(&bare, s->nonce);
    must(bare.len == 0 || *bare.at == ',');
    must(s->proof.len && s->channel.len && s->nonce.len);
}

/* What is not used may stand around the token. */
static void
check_bearer(struct rest *r, const struct sasl *s)
{
    check_gs2(r, s);
    pass_text(r, "\1");
    must(r->len >= 2 && memcmp(r->at + r->len - 2, "\1\1", 2) == 0);
    must(s->secret.len == 0 || (s->secret.at > r->at && s->secret.at + s->secret.len <= r->at + r->len - 2));
    must(s->secret.len == 0 || s->secret.at[s->secret.len] == '\1');
    r->len = 0;
}

static void
check_xoauth2(struct rest *r, const struct sasl *s)
{
    pass_text(r, "user=");
    pass_slice(r, s->name);
    pass_text(r, "\1auth=");
    must(s->secret.len && s->secret.at > r->at &&
         r->len == (size_t)(s->secret.at - r->at) + s->secret.len + 2);
    pass(r, r->at, (size_t)(s->secret.at - r->at));
    pass_slice(r, s->secret);
    pass_text(r, "\1\1");
    must(s->name.len > 0);
}

static void (*const checks[])(struct rest *r, const struct sasl *s) = {
    [SASL_PLAIN] = check_plain,       [SASL_CRAM_MD5] = check_cram,      [SASL_SCRAM_FIRST] = check_first,
    [SASL_SCRAM_FINAL] = check_final, [SASL_OAUTHBEARER] = check_bearer, [SASL_XOAUTH2] = check_xoauth2,
};

#define KINDS (sizeof checks / sizeof *checks)

/* Without escapes, and with them again. */
static void
check_escapes(struct slice name)
{
    char *out = malloc(name.len ? name.len : 1); /* of just this size */
    size_t n = sasl_unescape(name, out);
    struct rest r = {name.at, name.len};

    must(n <= name.len);
    for (size_t i = 0; i < n; i++) {
        if (out[i] == ',' || out[i] == '=')
            pass_text(&r, out[i] == ',' ? "=2C" : "=3D");
        else
            pass(&r, out + i, 1);
    }
    must(r.len == 0);
    free(out);
}

static void
check(enum sasl_kind kind, const char *message, size_t n)
{
    struct sasl s;
    const char *why;
    struct rest r = {message, n};

    if (!sasl_parse(kind, message, n, &s, &why)) {
        must(why && *why);
        return;
    }
    must(prep_is_utf8(message, n) && (kind == SASL_PLAIN || !memchr(message, '\0', n)));
    must(s.name.len <= SASL_NAME_MAX && s.authzid.len <= SASL_NAME_MAX && s.nonce.len <= SASL_NONCE_MAX);
    checks[kind](&r, &s);
    must(r.len == 0);
    if (s.gs2.len) {
        check_escapes(s.authzid);
        check_escapes(s.name);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *message;

    if (n == 0)
        return 0;
    message = malloc(n > 1 ? n - 1 : 1); /* of just this size */
    memcpy(message, data + 1, n - 1);
    check((enum sasl_kind)(data[0] % KINDS), message, n - 1);
    free(message);
    return 0;
}
