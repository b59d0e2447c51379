/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One call: what was asked, and the reply that is being written. Embedded in its connection, which has at
 * most one.
 */

#include <stdbool.h>
#include <stddef.h>

#include "varlink/server/server.h"

enum {
        _CALL_E_SUCCESS,
        CALL_E_MALFORMED, /* nothing that can be answered: the connection is to be closed */
};

struct VarlinkCall {
        struct Connection *connection;
        struct json_object *message; /* owns the parameters */
        struct json_object *parameters;

        JsonWriter writer;
        JsonWriter writer_bare; /* the writer before "parameters" was opened */
        size_t reply_at;        /* where the message, its parameters and their members begin, from the */
        size_t parameters_at;   /* first pending byte of the output */
        size_t members_at;

        VarlinkCallFn part; /* goes on with the reply; NULL: it is not being written in parts */
        VarlinkCallFn closed;
        VarlinkCallFn drained;
        void *userdata;

        bool active : 1; /* handed to a handler, no final reply yet */
        bool more : 1;
        bool oneway : 1;
        bool writing : 1; /* between varlink_call_reply() and varlink_call_send() */
        bool continues : 1;
        bool error : 1;
};

/* Reads a message of @n bytes and runs its handler. CALL_E_MALFORMED, or -errno; either ends the connection.
 */
int call_dispatch(VarlinkCall *call, const char *message, size_t n);
/* Forgets the call, answered or not. */
void call_end(VarlinkCall *call);
