/*
 * primitives - what a TLS library's own work costs, without anything of the
 * server's around it: its contexts, memory instead of sockets.
 *
 * One file for each library has these functions.
 */
#ifndef BENCH_PRIMITIVES_H
#define BENCH_PRIMITIVES_H

#include <stdbool.h>
#include <stddef.h>

struct pipe_end; /* a library's connection in memory, the server's side */
struct library;

extern const char *const library_name;

/* NULL: out of memory, or the files are wrong. */
struct library *library_new(const char *cert, const char *key);
void library_free(struct library *l);

/* A full handshake with a client of the same library, whose work is not counted:
 * what the server's side took, in seconds of CPU, is added to *seconds.  NULL: it
 * failed. */
struct pipe_end *library_shake(struct library *l, double *seconds);
void library_hang_up(struct pipe_end *end, double *seconds);

/* Sends n octets, at most 16384, as one record that goes nowhere. */
bool library_send(struct pipe_end *end, const unsigned char *octets, size_t n);

/* A cipher alone, of n octets in place. */
enum cipher { CIPHER_AES_128_GCM, CIPHER_CHACHA20_POLY1305 };
bool library_seal(struct library *l, enum cipher cipher, unsigned char *octets, size_t n);

/* What both sides have in transit, for the library's own reading and writing. */
struct transit {
    unsigned char octets[65536];
    size_t at, end;
    bool sink; /* what is written is dropped */
};

size_t transit_put(struct transit *t, const void *octets, size_t n);
size_t transit_take(struct transit *t, void *octets, size_t n);

double cpu_seconds(void);

#endif
