/*
 * ticket_mbed - mbedTLS's sessions, sealed as tickets and opened again.
 *
 * One code for mbedTLS 2.28 and 3.6, whose own ticket contexts differ: AES-256-GCM
 * over what the library saves of a session.
 */
#ifndef POPD_TICKET_MBED_H
#define POPD_TICKET_MBED_H

#include "ticket.h"

#include <mbedtls/ssl.h>

/* mbedtls_ssl_conf_session_tickets_cb's functions; their context is a struct
 * ticket_context. */
mbedtls_ssl_ticket_write_t ticket_write;
mbedtls_ssl_ticket_parse_t ticket_parse;

#endif
