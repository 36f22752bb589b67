#include "tlswords.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What the other side says when it breaks off (RFC 8446, section 6). */
static const struct {
    int number;
    const char *words;
} alerts[] = {
    {0, "it closed"},
    {10, "unexpected message"},
    {20, "bad record"},
    {40, "no parameters in common"},
    {42, "it finds the certificate bad"},
    {43, "it cannot use this kind of certificate"},
    {44, "the certificate was revoked"},
    {45, "the certificate has expired"},
    {46, "it does not accept the certificate"},
    {47, "illegal parameter"},
    {48, "it does not know who signed the certificate"},
    {49, "access denied"},
    {50, "decode error"},
    {51, "decrypt error"},
    {70, "it does not take this version of TLS"},
    {71, "insufficient security"},
    {80, "internal error"},
    {86, "inappropriate fallback"},
    {90, "canceled by its user"},
    {112, "it does not know that name"},
    {116, "it wants a certificate"},
    {120, "no application protocol in common"},
};

/* Of either side; %s is the other one. */
static const char *const faults[] = {
    [FAULT_NO_TLS] = "the %s does not speak TLS",
    [FAULT_UNEXPECTED] = "the %s does not keep to TLS: unexpected message",
    [FAULT_ALTERED] = "what the %s sent was altered or is no TLS",
    [FAULT_LEFT] = "the %s left",
    [FAULT_MEMORY] = "out of memory",
    [FAULT_VERSION] = "the %s offers no version of TLS that is taken here",
    [FAULT_NOTHING_COMMON] = "the %s has no cipher suite or curve in common with this side",
    [FAULT_NO_SUITE] = "the %s has no cipher suite in common with this side",
    [FAULT_NO_SUITE_FITS] = "no cipher suite in common fits this certificate",
    [FAULT_PROTOCOL] = "the %s asks for another protocol than pop3 (ALPN)",
    [FAULT_HELLO] = "the %s's hello is bad, or it asks for another protocol than pop3 (ALPN)",
};

static const char *const flaws[] = {
    [FLAW_HOST] = "it is for another host",
    [FLAW_EXPIRED] = "it has expired",
    [FLAW_FUTURE] = "it is not valid yet",
    [FLAW_REVOKED] = "it was revoked",
    [FLAW_UNTRUSTED] = "no authority that is trusted here vouches for it",
    [FLAW_DIGEST] = "its signature is of a weak kind",
    [FLAW_KEY] = "its key is too weak",
    [FLAW_OTHER] = "it cannot be verified",
};

static void
alert_words(int number, const char *other, char why[TLS_WHY])
{
    for (size_t i = 0; i < sizeof alerts / sizeof *alerts; i++)
        if (alerts[i].number == number) {
            snprintf(why, TLS_WHY, "the %s broke off: %s (alert %d)", other, alerts[i].words, number);
            return;
        }
    snprintf(why, TLS_WHY, "the %s broke off (alert %d)", other, number);
}

static void
fault_words(enum tls_fault fault, const char *other, char why[TLS_WHY])
{
    snprintf(why, TLS_WHY, faults[fault], other);
}

void
tlswords_why(const struct tls_end *end, const struct tlsio *io, const char *other, char why[TLS_WHY])
{
    if (end->flaw)
        snprintf(why, TLS_WHY, "the server's certificate is refused: %s", flaws[end->flaw]);
    else if (end->alert >= 0)
        alert_words(end->alert, other, why);
    else if (io->broken == ECONNRESET || io->broken == EPIPE)
        fault_words(FAULT_LEFT, other, why);
    else if (io->broken)
        snprintf(why, TLS_WHY, "%s", strerror(io->broken));
    else if (io->first == FIRST_OTHER)
        fault_words(FAULT_NO_TLS, other, why);
    else if (end->fault)
        fault_words(end->fault, other, why);
    else
        snprintf(why, TLS_WHY, "%s", end->words);
}
