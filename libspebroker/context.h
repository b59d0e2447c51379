/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One connection to the broker, and the one blocking call on it. Functions here return what the public ones
 * do (enum spebroker_result).
 */

#include <spebroker/spebroker.h>

#include "varlink/client.h"

/* A call in the making: members that are not set are not sent. */
typedef struct Call {
        const char *method;
        bool stream;     /* with 'more' */
        bool repeatable; /* carrying it out twice is the same as once */
        const struct spebroker_request *request;
        const char *lease_id;
        const char *cpus;
        uint64_t wait_usec;
} Call;

struct spebroker {
        unsigned n_ref;
        char *path;            /* NULL: from a descriptor */
        VarlinkClient *client; /* NULL: not connected */
        uint64_t timeout_usec;
        bool reconnect;
        spebroker_log_fn log_fn;
        void *log_userdata;
        struct spebroker_refusal *refusal; /* of the last call */
        bool streaming;
        char *followed; /* the stream's lease; NULL before one is granted */
};

/* At the start of each call: the answer to the one before is over. */
void context_forget_refusal(struct spebroker *context);

/* Remembers an error reply, and says SPEBROKER_REFUSED. */
int context_refuse(struct spebroker *context, const VarlinkReply *reply);

/* One attempt. */
int context_connect(struct spebroker *context);

/* Gives the connection up, for the reason that is logged. */
void context_disconnect(struct spebroker *context, const char *why);

/* Queues and sends. SPEBROKER_DISCONNECTED if the connection is gone, and then nothing was sent. */
int context_send(struct spebroker *context, const Call *call);

/* Sends and waits, with @wait_usec more than the context's timeout, reconnecting as far as that is allowed.
 */
int context_call(struct spebroker *context, const Call *call, VarlinkReply *ret_reply);
