#include "tlskit.h"

#include "digest.h"
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define FILE_MAX 1048576 /* of certificates, keys */

bool
tlskit_refuse(char why[TLSKIT_WHY], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, TLSKIT_WHY, format, args);
    va_end(args);
    return false;
}

/* A pipe would be waited for, a device may have no end. */
static bool
is_endless(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

unsigned char *
tlskit_read(const char *path, size_t *n, char why[TLSKIT_WHY])
{
    bool endless = is_endless(path);
    FILE *f = endless ? NULL : fopen(path, "rb");
    unsigned char *text = f ? malloc(FILE_MAX + 1) : NULL;

    if (f)
        setvbuf(f, NULL, _IONBF, 0); /* no copy of a key that nobody wipes */
    if (!text) {
        tlskit_refuse(why, "%s cannot be read: %s", path,
                      endless ? "it is no regular file" : strerror(errno));
        if (f)
            fclose(f);
        return NULL;
    }
    *n = fread(text, 1, FILE_MAX + 1, f);
    if (ferror(f) || *n > FILE_MAX) {
        tlskit_refuse(why, "%s cannot be read: %s", path,
                      *n > FILE_MAX ? "it is larger than 1 MB" : strerror(errno));
        tlskit_free(text);
        text = NULL;
    } else {
        text[(*n)++] = '\0';
    }
    fclose(f);
    return text;
}

void
tlskit_free(unsigned char *text)
{
    digest_wipe(text, FILE_MAX + 1);
    free(text);
}

/* Where systems keep the certificates that they trust; SSL_CERT_FILE, which
 * OpenSSL's programs look at too, comes before. */
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Ubuntu, Arch, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* openSUSE */
    "/etc/ssl/cert.pem",                  /* the BSDs, macOS */
};

const char *
tlskit_system_roots(char why[TLSKIT_WHY])
{
    const char *path = getenv("SSL_CERT_FILE");

    if (path && *path)
        return path;
    for (size_t i = 0; i < sizeof bundles / sizeof *bundles; i++)
        if (access(bundles[i], R_OK) == 0)
            return bundles[i];
    tlskit_refuse(why, "tls: no certificates of authorities were found on this system; install them "
                       "(Debian: ca-certificates) or name a file");
    return NULL;
}

void
tlskit_warn_of_mode(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & S_IROTH))
        log_event(LOG_WARNING, "a private key can be read by everybody on this machine: chmod o-r", "file",
                  path, NULL);
}

void
tlskit_warn_of_dates(const char *path, bool has_expired, bool is_of_the_future)
{
    if (has_expired)
        log_event(LOG_WARNING, "a certificate has expired: clients will refuse it", "file", path, NULL);
    else if (is_of_the_future)
        log_event(LOG_WARNING, "a certificate is not valid yet: clients will refuse it", "file", path, NULL);
}

bool
tlskit_has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes");
#elif defined(__aarch64__)
    return getauxval(AT_HWCAP) & HWCAP_AES;
#else
    return false;
#endif
}
