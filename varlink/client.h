/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The calling side of varlink, without an event loop of its own: libspebroker and speadm are built on it.
 * One call is in flight at a time for the blocking form; the caller of the other form may pipeline. A
 * connection on which anything malformed arrives is dead, and says so with VARLINK_CLIENT_E_CLOSED.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "varlink/json-write.h"

enum {
        _VARLINK_CLIENT_E_SUCCESS,
        VARLINK_CLIENT_E_NO_SERVICE, /* nobody listens there: ENOENT, ECONNREFUSED */
        VARLINK_CLIENT_E_CLOSED,     /* the service hung up, or broke the protocol */
        VARLINK_CLIENT_E_TIMEOUT,    /* no reply in time; the connection can no longer be used */
        VARLINK_CLIENT_E_AGAIN,      /* nothing complete yet: poll the fd */
};

typedef struct VarlinkClient VarlinkClient;

/* One reply. parameters may be NULL ({}), error is NULL or the full error name. */
typedef struct VarlinkReply {
        struct json_object *message; /* owns the two below */
        struct json_object *parameters;
        const char *error;
        bool continues;
} VarlinkReply;

#define VARLINK_REPLY_NULL ((VarlinkReply){0})
void varlink_reply_deinit(VarlinkReply *reply);

/* Flags of a call. */
enum {
        VARLINK_CALL_MORE = 1 << 0,
        VARLINK_CALL_ONEWAY = 1 << 1,
};

/* How long a connect waits for a service that is there but whose backlog is full. */
#define VARLINK_CLIENT_CONNECT_TIMEOUT_USEC UINT64_C(5000000)

/*
 * Takes no default path: the caller knows. VARLINK_CLIENT_E_NO_SERVICE; VARLINK_CLIENT_E_TIMEOUT if the
 * service takes no connection within VARLINK_CLIENT_CONNECT_TIMEOUT_USEC.
 */
int varlink_client_new_path(const char *path, VarlinkClient **ret_client);
/* The same, within @timeout_usec if that is less; 0 does not wait at all. */
int varlink_client_new_path_within(const char *path, uint64_t timeout_usec, VarlinkClient **ret_client);
/* Takes over @fd, a connected stream socket, on success, and sets its close-on-exec flag. */
int varlink_client_new_fd(int fd, VarlinkClient **ret_client);
VarlinkClient *varlink_client_free(VarlinkClient *client);
DEFINE_CLEANUP(VarlinkClient *, varlink_client_free)

int varlink_client_get_fd(const VarlinkClient *client);
/* The poll() events to wait for: POLLIN, and POLLOUT while bytes are unsent. */
short varlink_client_get_events(const VarlinkClient *client);

/*
 * Begins a call: write the parameters' members to *@ret_writer, then varlink_client_end(). Nothing is sent
 * before end, which sends what the socket takes at once; if it fails, none of the call is sent.
 * VARLINK_CLIENT_E_CLOSED if the connection is known to be dead.
 */
int varlink_client_begin(VarlinkClient *client, const char *method, unsigned flags, JsonWriter **ret_writer);
int varlink_client_end(VarlinkClient *client);

/* Sends and receives what it can without blocking; VARLINK_CLIENT_E_AGAIN if no reply is complete. */
int varlink_client_process(VarlinkClient *client, VarlinkReply *ret_reply);
/*
 * The next reply, waiting at most @timeout_usec (UINT64_MAX: for ever). With no reply due (oneway calls) it
 * waits until all is sent, and then says VARLINK_CLIENT_E_AGAIN.
 */
int varlink_client_wait(VarlinkClient *client, uint64_t timeout_usec, VarlinkReply *ret_reply);
