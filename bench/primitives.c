/* primitives - what the TLS library that popd-lua is built with costs by itself.
 *
 *     primitives CERT KEY
 *
 * Prints the CPU of the server's side of a full handshake, of sending a GB in full
 * records, of the ciphers alone, and what memory the library keeps for a connection. */
#include "primitives.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RECORD 16384
#define ROUNDS 5
#define HANDSHAKES 100
#define HELD 64
#define OCTETS (64u << 20)

size_t
transit_put(struct transit *t, const void *octets, size_t n)
{
    size_t room = sizeof t->octets - t->end;

    if (t->sink)
        return n;
    n = n < room ? n : room;
    memcpy(t->octets + t->end, octets, n);
    t->end += n;
    return n;
}

size_t
transit_take(struct transit *t, void *octets, size_t n)
{
    size_t left = t->end - t->at;

    n = n < left ? n : left;
    memcpy(octets, t->octets + t->at, n);
    t->at += n;
    if (t->at == t->end)
        t->at = t->end = 0;
    return n;
}

double
cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Each of these returns what one unit costs; below 0: it failed.  */

static double
measure_handshake(struct library *l)
{
    double seconds = 0;

    for (int i = 0; i < HANDSHAKES; i++) {
        struct pipe_end *end = library_shake(l, &seconds);

        if (!end)
            return -1;
        library_hang_up(end, &seconds);
    }
    return seconds / HANDSHAKES * 1000;
}

static unsigned char record[RECORD];

static double
measure_records(struct library *l)
{
    double ignored = 0, from;
    struct pipe_end *end = library_shake(l, &ignored);
    bool ok = end != NULL;

    from = cpu_seconds();
    for (size_t sum = 0; ok && sum < OCTETS; sum += RECORD)
        ok = library_send(end, record, RECORD);
    from = cpu_seconds() - from;
    if (end)
        library_hang_up(end, &ignored);
    return ok ? from / OCTETS * 1e9 : -1;
}

static double
measure_cipher(struct library *l, enum cipher cipher)
{
    double from = cpu_seconds();

    for (size_t sum = 0; sum < OCTETS; sum += RECORD)
        if (!library_seal(l, cipher, record, RECORD))
            return -1;
    return (cpu_seconds() - from) / OCTETS * 1e9;
}

static double
measure_aes(struct library *l)
{
    return measure_cipher(l, CIPHER_AES_128_GCM);
}

static double
measure_chacha(struct library *l)
{
    return measure_cipher(l, CIPHER_CHACHA20_POLY1305);
}

/* The first handshake makes what is made once. */
static double
measure_memory(struct library *l)
{
    struct pipe_end *held[HELD] = {NULL};
    double ignored = 0;
    size_t before = mallinfo2().uordblks, after;
    bool ok = true;

    for (int i = 0; ok && i < HELD; i++)
        ok = (held[i] = library_shake(l, &ignored)) != NULL;
    after = mallinfo2().uordblks;
    for (int i = 0; i < HELD; i++)
        if (held[i])
            library_hang_up(held[i], &ignored);
    return ok ? ((double)after - (double)before) / HELD / 1024 : -1;
}

static const struct {
    const char *what, *unit;
    double (*measure)(struct library *l);
} rows[] = {
    {"handshake, the server's side", "ms of CPU", measure_handshake},
    {"full records", "s of CPU a GB", measure_records},
    {"AES-128-GCM", "s of CPU a GB", measure_aes},
    {"ChaCha20-Poly1305", "s of CPU a GB", measure_chacha},
    {"a connection, with the bench's buffers", "KiB of memory", measure_memory},
};

/* The least of some rounds: what comes between only adds. */
static bool
print_row(struct library *l, size_t row)
{
    double least = -1;

    for (int i = 0; i < ROUNDS; i++) {
        double value = rows[row].measure(l);

        if (value < 0)
            return false;
        if (least < 0 || value < least)
            least = value;
    }
    printf("%s: %s: %.3f %s\n", library_name, rows[row].what, least, rows[row].unit);
    return true;
}

int
main(int argc, char **argv)
{
    struct library *l = argc == 3 ? library_new(argv[1], argv[2]) : NULL;
    bool ok = l != NULL;

    if (!l)
        fprintf(stderr, "usage: primitives CERT KEY\n");
    for (size_t i = 0; ok && i < sizeof rows / sizeof *rows; i++)
        ok = print_row(l, i);
    library_free(l);
    return ok ? 0 : 1;
}
