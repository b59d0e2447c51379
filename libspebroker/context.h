/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One connection to the broker at a time. Functions here return what the public ones do (enum
 * spebroker_result).
 */

#include <spebroker/spebroker.h>

#include "libspebroker/changes.h"
#include "libspebroker/waiter.h"
#include "util/backoff.h"
#include "varlink/client.h"

/* A call in the making: members that are not set are not sent. */
typedef struct Call {
        const char *method;
        bool stream;    /* with 'more' */
        bool only_asks; /* changes nothing, so that it does not matter whether it was carried out */
        const struct spebroker_request *request;
        const char *lease_id;
        const char *vm;
        const char *cpus;
        uint64_t memlock_missing; /* 0: nothing is */
        uint64_t wait_usec;
        bool once; /* not to be sent again: it might be carried out twice */
} Call;

/* What is followed: a lease by its id, or one that a request is to become. */
typedef struct Stream {
        bool running;
        char *lease_id;                    /* NULL before one is granted */
        struct spebroker_request *request; /* that is to be granted, or NULL */
        bool repeatable;                   /* the request can be made again */
        uint64_t wait_usec;
        uint64_t wait_deadline;
        struct spebroker_lease *last; /* what was handed out last */

        bool resuming; /* the connection was lost, and nothing has been heard on another one yet */
        Backoff backoff;
        uint64_t next_attempt; /* of a connection, while there is none */

        struct spebroker_lease *changed; /* what is to be handed out, once for each of changes */
        const char *changes[CHANGES_MAX];
        size_t n_changes;
        size_t n_told;
} Stream;

struct spebroker {
        unsigned n_ref;
        pid_t pid;             /* of the process that made it */
        char *path;            /* NULL: from a descriptor */
        VarlinkClient *client; /* NULL: not connected */
        Waiter waiter;         /* open once it may reconnect */
        uint64_t timeout_usec;
        bool reconnect;
        spebroker_log_fn log_fn;
        void *log_userdata;
        struct spebroker_refusal *refusal;  /* of the last call */
        struct spebroker_request *in_doubt; /* may have become a lease that nobody was told of */
        Stream stream;
};

void context_log(struct spebroker *context, int priority, const char *message);

/* At the start of each call: the answer to the one before is over. */
void context_forget_refusal(struct spebroker *context);

/* Remembers an error reply, and says SPEBROKER_REFUSED. */
int context_refuse(struct spebroker *context, const VarlinkReply *reply);

/* True if the last call was refused with that error of the broker's. */
bool context_refused_as(const struct spebroker *context, const char *name);

/* One attempt, of @timeout_usec at most. */
int context_connect(struct spebroker *context, uint64_t timeout_usec);

/* Waits for what the connection has to say and to send, in the descriptor of a context that may reconnect. */
int context_watch(struct spebroker *context);

/* Gives the connection up, for the reason that is logged. */
void context_disconnect(struct spebroker *context, const char *why);

/* Queues and sends. SPEBROKER_DISCONNECTED if the connection is gone, and then nothing was sent. */
int context_send(struct spebroker *context, const Call *call);
