#include "sasl.h"

#include "prep.h"

#include <string.h>

/* Each part below takes octets off the front of *in.  False: *why is set. */

static bool
refuse(const char **why, const char *reason)
{
    *why = reason;
    return false;
}

static struct slice
take(struct slice *in, size_t n)
{
    struct slice taken = {in->at, n};

    in->at += n;
    in->len -= n;
    return taken;
}

static bool
take_text(struct slice *in, const char *text)
{
    size_t n = strlen(text);

    if (in->len < n || memcmp(in->at, text, n) != 0)
        return false;
    take(in, n);
    return true;
}

/* All before the octet, which goes too.  False: it is not there. */
static bool
take_until(struct slice *in, char octet, struct slice *taken)
{
    const char *end = in->len ? memchr(in->at, octet, in->len) : NULL;

    if (!end)
        return false;
    *taken = take(in, (size_t)(end - in->at));
    take(in, 1);
    return true;
}

/* The value of an attribute: up to the next comma, which stays, or the end. */
static struct slice
take_value(struct slice *in)
{
    const char *end = in->len ? memchr(in->at, ',', in->len) : NULL;

    return take(in, end ? (size_t)(end - in->at) : in->len);
}

static bool
is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
is_printable(char c)
{
    return c > 0x20 && c < 0x7F;
}

static bool
is_base64_letter(char c)
{
    return is_letter(c) || is_digit(c) || c == '+' || c == '/';
}

static bool
is_binding_letter(char c)
{
    return is_letter(c) || is_digit(c) || c == '.' || c == '-';
}

/* RFC 6750, section 2.1. */
static bool
is_token_letter(char c)
{
    return is_base64_letter(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

static bool
is_of(struct slice s, bool (*is)(char))
{
    for (size_t i = 0; i < s.len; i++)
        if (!is(s.at[i]))
            return false;
    return s.len > 0;
}

static struct slice
without_padding(struct slice s, size_t most)
{
    for (; most > 0 && s.len && s.at[s.len - 1] == '='; most--)
        s.len--;
    return s;
}

static bool
is_base64(struct slice s)
{
    return s.len % 4 == 0 && is_of(without_padding(s, 2), is_base64_letter);
}

/* PLAIN: authzid NUL name NUL password */

static bool
parse_plain(struct slice in, struct sasl *s, const char **why)
{
    if (!take_until(&in, '\0', &s->authzid) || !take_until(&in, '\0', &s->name))
        return refuse(why, "two NULs are missing");
    s->secret = in;
    if (in.len && memchr(in.at, '\0', in.len))
        return refuse(why, "there is a NUL too many");
    if (s->name.len == 0 || s->secret.len == 0)
        return refuse(why, s->name.len ? "the password is empty" : "the name is empty");
    return true;
}

/* CRAM-MD5: name SP digest; the name may have spaces, so the last one parts them */

static bool
parse_cram(struct slice in, struct sasl *s, const char **why)
{
    const char *space = in.len ? memrchr(in.at, ' ', in.len) : NULL;

    if (!space || space == in.at)
        return refuse(why, "a name, a space and a digest are expected");
    s->name = take(&in, (size_t)(space - in.at));
    take(&in, 1);
    s->digest = in;
    if (in.len != 32 || !is_of(in, is_hex))
        return refuse(why, "the digest is not of 32 hex digits");
    return true;
}

/* SCRAM and gs2 */

/* Commas are gone already; '=' begins an escape. */
static bool
check_saslname(struct slice name, const char **why)
{
    if (name.len == 0)
        return refuse(why, "the name is empty");
    while (name.len) {
        if (*name.at != '=')
            take(&name, 1);
        else if (!take_text(&name, "=2C") && !take_text(&name, "=3D"))
            return refuse(why, "an escape in the name is neither =2C nor =3D");
    }
    return true;
}

static bool
parse_flag(struct slice flag, struct sasl *s, const char **why)
{
    s->flag = (struct slice){flag.at, flag.len ? 1 : 0};
    if (flag.len == 1 && (*flag.at == 'n' || *flag.at == 'y'))
        return true;
    if (!take_text(&flag, "p="))
        return refuse(why, "the channel binding flag is not n, y or p=");
    s->binding = flag;
    return is_of(flag, is_binding_letter) || refuse(why, "the name of the channel binding is none");
}

static bool
parse_gs2(struct slice *in, struct sasl *s, const char **why)
{
    struct slice flag;

    s->gs2 = *in;
    if (!take_until(in, ',', &flag) || !parse_flag(flag, s, why))
        return *why ? false : refuse(why, "the GS2 header is missing");
    if (take_text(in, "a=")) {
        s->authzid = take_value(in);
        if (!check_saslname(s->authzid, why))
            return false;
    }
    if (!take_text(in, ","))
        return refuse(why, "the GS2 header has no end");
    s->gs2.len -= in->len;
    return true;
}

/* Attributes that have a meaning have one place each; m is for what we do not
 * know and must not ignore (section 5.1). */
static bool
is_reserved(char letter)
{
    return strchr("anmrcsipve", letter) != NULL;
}

/* Passes over one more attribute. */
static bool
skip_extension(struct slice *in, const char **why)
{
    if (in->len < 2 || !is_letter(in->at[0]) || in->at[1] != '=')
        return refuse(why, "an attribute is neither a letter nor has a value");
    if (is_reserved(in->at[0]))
        return refuse(why, "an attribute is out of place");
    take(in, 2);
    return take_value(in).len > 0 || refuse(why, "an extension is empty");
}

static bool
take_nonce(struct slice *in, struct sasl *s, const char **why)
{
    if (!take_text(in, "r="))
        return refuse(why, "the nonce is missing");
    s->nonce = take_value(in);
    return is_of(s->nonce, is_printable) || refuse(why, "the nonce is not of printable characters");
}

static bool
parse_first(struct slice in, struct sasl *s, const char **why)
{
    if (!parse_gs2(&in, s, why))
        return false;
    s->bare = in;
    if (take_text(&in, "m="))
        return refuse(why, "it asks for an extension that nobody knows");
    if (!take_text(&in, "n="))
        return refuse(why, "the name is missing");
    s->name = take_value(&in);
    if (!check_saslname(s->name, why))
        return false;
    if (!take_text(&in, ",") || !take_nonce(&in, s, why))
        return *why ? false : refuse(why, "the nonce is missing");
    while (in.len)
        if (!take_text(&in, ",") || !skip_extension(&in, why))
            return false;
    return true;
}

static bool
take_proof(struct slice *in, struct sasl *s, const char **why)
{
    s->proof = *in;
    if (!is_base64(s->proof))
        return refuse(why, "the proof is no base64, or not the end");
    return true;
}

static bool
parse_final(struct slice in, struct sasl *s, const char **why)
{
    s->bare = in;
    if (!take_text(&in, "c="))
        return refuse(why, "the channel binding is missing");
    s->channel = take_value(&in);
    if (!is_base64(s->channel))
        return refuse(why, "the channel binding is no base64");
    if (!take_text(&in, ",") || !take_nonce(&in, s, why))
        return *why ? false : refuse(why, "the nonce is missing");
    while (take_text(&in, ",")) {
        s->bare.len = (size_t)(in.at - 1 - s->bare.at);
        if (take_text(&in, "p="))
            return take_proof(&in, s, why);
        if (!skip_extension(&in, why))
            return false;
    }
    return refuse(why, "the proof is missing");
}

/* Tokens */

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool
take_scheme(struct slice *value)
{
    static const char scheme[] = "bearer ";

    for (size_t i = 0; i < sizeof scheme - 1; i++)
        if (i >= value->len || lower(value->at[i]) != scheme[i])
            return false;
    take(value, sizeof scheme - 1);
    return true;
}

/* "Bearer token"; nothing at all asks where to get a token (RFC 7628, section
 * 4.3). */
static bool
parse_auth(struct slice value, struct sasl *s, const char **why)
{
    s->secret = value;
    if (value.len == 0)
        return true;
    if (!take_scheme(&value))
        return refuse(why, "the authorization is not of the kind Bearer");
    while (value.len && *value.at == ' ')
        take(&value, 1);
    s->secret = value;
    return is_of(without_padding(value, value.len), is_token_letter) || refuse(why, "the token is none");
}

/* RFC 7628's value: printable ASCII and blanks, so no UTF-8 and no NUL. */
static bool
is_value_letter(char c)
{
    return is_printable(c) || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool
is_key(struct slice key, const char *name)
{
    return key.len == strlen(name) && memcmp(key.at, name, key.len) == 0;
}

/* key=value, without its end; host, port and what else there is are not used. */
static bool
parse_pair(struct slice pair, struct sasl *s, bool *found, const char **why)
{
    struct slice key;

    if (!take_until(&pair, '=', &key) || !is_of(key, is_letter))
        return refuse(why, "a key and a value are expected");
    if (pair.len && !is_of(pair, is_value_letter))
        return refuse(why, "a value is not of printable characters");
    if (!is_key(key, "auth"))
        return true;
    if (*found)
        return refuse(why, "there are two authorizations");
    *found = true;
    return parse_auth(pair, s, why);
}

static bool
parse_bearer(struct slice in, struct sasl *s, const char **why)
{
    struct slice pair;
    bool found = false;

    if (!parse_gs2(&in, s, why))
        return false;
    if (s->binding.len)
        return refuse(why, "this mechanism has no channel binding");
    if (!take_text(&in, "\1"))
        return refuse(why, "the GS2 header has no end");
    while (take_until(&in, '\1', &pair)) {
        if (pair.len == 0)
            return (found && in.len == 0) || refuse(why, "the authorization is missing, or not the end");
        if (!parse_pair(pair, s, &found, why))
            return false;
    }
    return refuse(why, "the end is missing");
}

static bool
parse_xoauth2(struct slice in, struct sasl *s, const char **why)
{
    struct slice auth;

    if (!take_text(&in, "user=") || !take_until(&in, '\1', &s->name) || s->name.len == 0)
        return refuse(why, "the user is missing");
    if (!take_text(&in, "auth=") || !take_until(&in, '\1', &auth) || auth.len == 0)
        return refuse(why, "the authorization is missing");
    if (in.len != 1 || *in.at != '\1')
        return refuse(why, "the end is missing, or not the end");
    return parse_auth(auth, s, why);
}

static const struct {
    const char *name;
    bool (*parse)(struct slice in, struct sasl *s, const char **why);
    bool nul; /* NULs part its fields */
} kinds[] = {
    [SASL_PLAIN] = {"PLAIN", parse_plain, true},
    [SASL_CRAM_MD5] = {"CRAM-MD5", parse_cram, false},
    [SASL_SCRAM_FIRST] = {"SCRAM-FIRST", parse_first, false},
    [SASL_SCRAM_FINAL] = {"SCRAM-FINAL", parse_final, false},
    [SASL_OAUTHBEARER] = {"OAUTHBEARER", parse_bearer, false},
    [SASL_XOAUTH2] = {"XOAUTH2", parse_xoauth2, false},
};

bool
sasl_find(const char *name, enum sasl_kind *kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *kind = (enum sasl_kind)i;
            return true;
        }
    }
    return false;
}

static bool
has_token(enum sasl_kind kind)
{
    return kind == SASL_OAUTHBEARER || kind == SASL_XOAUTH2;
}

static bool
check_lengths(enum sasl_kind kind, const struct sasl *s, const char **why)
{
    if (s->name.len > SASL_NAME_MAX || s->authzid.len > SASL_NAME_MAX)
        return refuse(why, "a name is too long");
    if (s->secret.len > SASL_SECRET_MAX && !has_token(kind))
        return refuse(why, "the password is too long");
    return s->nonce.len <= SASL_NONCE_MAX || refuse(why, "the nonce is too long");
}

bool
sasl_parse(enum sasl_kind kind, const char *in, size_t n, struct sasl *s, const char **why)
{
    struct slice all = {n ? in : "", n};

    *s = (struct sasl){0};
    *why = NULL;
    if (!prep_is_utf8(all.at, n))
        return refuse(why, "there are octets that are no UTF-8");
    if (!kinds[kind].nul && memchr(all.at, '\0', n))
        return refuse(why, "there is a NUL");
    if (!kinds[kind].parse(all, s, why))
        return *why ? false : refuse(why, "there is something behind its end");
    return check_lengths(kind, s, why);
}

size_t
sasl_unescape(struct slice name, char *out)
{
    size_t len = 0;

    while (name.len)
        if (take_text(&name, "=2C"))
            out[len++] = ',';
        else if (take_text(&name, "=3D"))
            out[len++] = '=';
        else
            out[len++] = *take(&name, 1).at;
    return len;
}
