/*
 * tlskit - what TLS needs on either side, whichever library speaks it: reasons,
 * files, and what the machine can do.
 *
 * What can be refused says why in words for whoever runs the server.
 */
#ifndef POPD_TLSKIT_H
#define POPD_TLSKIT_H

#include <stdbool.h>
#include <stddef.h>

#define TLSKIT_WHY 512 /* octets of a reason */

/* The reason, from a format.  Returns false. */
bool tlskit_refuse(char why[TLSKIT_WHY], const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* A regular file's octets with a NUL behind them, which *n counts; tlskit_free
 * wipes and frees.  NULL: why. */
unsigned char *tlskit_read(const char *path, size_t *n, char why[TLSKIT_WHY]);
void tlskit_free(unsigned char *text);

/* The file of the certificates that this system trusts, or NULL: why. */
const char *tlskit_system_roots(char why[TLSKIT_WHY]);

/* Whether the file of a private key is everybody's to read: that is logged. */
void tlskit_warn_of_mode(const char *path);

/* Logs of a certificate that is served with all the same. */
void tlskit_warn_of_dates(const char *path, bool has_expired, bool is_of_the_future);

/* Whether the processor has AES of its own. */
bool tlskit_has_aes(void);

#endif
