/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The serving side of varlink on an sd-event loop: listens, checks each call against the IDL, hands it to its
 * handler, and carries the replies out.
 *
 * A connection processes one call at a time, in order; calls behind it wait unread in its buffer. All
 * complete messages of one read are answered before one write (bounded per turn, so that no connection
 * starves another, and a long reply may be written in several). Nothing is read from a connection while its
 * output is above a mark: a slow reader slows itself. Anything malformed closes the connection. A handler's
 * negative return is answered with io.systemd.System (errno) and ends nothing else.
 *
 * Also served: org.varlink.service, and the errors MethodNotFound (full name), InterfaceNotFound,
 * InvalidParameter (bare field name), ExpectedMore.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"
#include "varlink/idl.h"
#include "varlink/json-write.h"

enum {
        _VARLINK_SERVER_E_SUCCESS,
        VARLINK_SERVER_E_IDL,      /* a description does not parse */
        VARLINK_SERVER_E_MISMATCH, /* a handler without a method in the description, or the reverse */
};

typedef struct VarlinkServer VarlinkServer;
typedef struct VarlinkCall VarlinkCall;

/* Who is at the other end, by the kernel's word: as of connect(), whenever it is asked for. */
typedef struct VarlinkPeer {
        pid_t pid;
        uid_t uid;
        gid_t gid;
        int pidfd;                       /* SO_PEERPIDFD, or -1 where the kernel gives none */
        uint64_t accepted_boottime_usec; /* a process started after this is not the peer */
        const gid_t *groups;             /* supplementary, SO_PEERGROUPS */
        size_t n_groups;
} VarlinkPeer;

/* All may be changed while running (reload); they hold for what comes after. */
typedef struct VarlinkServerLimits {
        unsigned connections_max;
        unsigned connections_for_root;     /* of these, if there are eight times as many or more */
        unsigned connections_per_user_max; /* of one uid; root counts too */
        size_t message_max;                /* bytes of one incoming message; more closes the connection */
        size_t output_max;                 /* bytes waiting for a slow reader; more closes the connection */
        size_t user_buffer_max; /* storage of what waits, in and out, on all connections of one uid */
        size_t buffer_max;      /* of all; a user may have as much as the others leave free */
        uint64_t message_usec;  /* from a message's first byte to its end; longer closes it */
} VarlinkServerLimits;

#define VARLINK_SERVER_LIMITS_DEFAULT                 \
        ((VarlinkServerLimits){                       \
                .connections_max = 4096,              \
                .connections_per_user_max = 2176,     \
                .message_max = 1024 * 1024,           \
                .output_max = 64 * 1024 * 1024,       \
                .user_buffer_max = 128 * 1024 * 1024, \
                .buffer_max = 256 * 1024 * 1024,      \
                .message_usec = 30000000,             \
        })

/*
 * Handles one call. @parameters has been checked against the IDL; it is never NULL, and lives until the
 * handler returns or has replied for good. Replies now, with varlink_call_reply() or varlink_call_error(), or
 * returns 0 without a final reply and replies later: the call then stays alive until its final reply or until
 * its connection closes.
 */
typedef int (*VarlinkMethodHandler)(VarlinkCall *call, struct json_object *parameters, void *userdata);

typedef struct VarlinkMethod {
        const char *name; /* the last component, "Acquire" */
        VarlinkMethodHandler handler;
        bool requires_more; /* without 'more': ExpectedMore */
        bool only_tells;    /* does nothing but reply: not carried out where nobody would hear it */
} VarlinkMethod;

/* The strings are borrowed and must outlive the server. */
typedef struct VarlinkServiceInfo {
        const char *vendor;
        const char *product;
        const char *version;
        const char *url;
} VarlinkServiceInfo;

typedef struct VarlinkServerCounters {
        unsigned connections;
        uint64_t calls;
        uint64_t errors;              /* error replies */
        uint64_t refused_connections; /* over a limit */
        uint64_t malformed;           /* connections closed for what they sent */
        uint64_t overflows;           /* connections closed for what they, or their user, left waiting */
} VarlinkServerCounters;

int varlink_server_new(sd_event *event, const VarlinkServiceInfo *info, VarlinkServer **ret_server);
/* Every call that is still pending gets its @closed. May be called from within a handler. */
VarlinkServer *varlink_server_free(VarlinkServer *server);
DEFINE_CLEANUP(VarlinkServer *, varlink_server_free)

/* @idl_text is parsed here; @methods and @userdata are borrowed. Every method of the text needs its handler.
 */
int varlink_server_add_interface(VarlinkServer *server, const char *idl_text, const VarlinkMethod *methods,
                                 size_t n_methods, void *userdata);
void varlink_server_set_limits(VarlinkServer *server, const VarlinkServerLimits *limits);
/* Takes over @fd, a listening AF_UNIX stream socket, on success. */
int varlink_server_listen_fd(VarlinkServer *server, int fd);
/* Takes over @fd, a connected AF_UNIX stream socket, on success. */
int varlink_server_add_connection_fd(VarlinkServer *server, int fd);
void varlink_server_get_counters(const VarlinkServer *server, VarlinkServerCounters *ret_counters);

const VarlinkPeer *varlink_call_get_peer(const VarlinkCall *call);
bool varlink_call_wants_more(const VarlinkCall *call);
/* Bytes that the peer has not read yet: a stream that is far behind is better told that it lost something. */
size_t varlink_call_get_backlog(const VarlinkCall *call);

/*
 * Begins a reply: write the members of its parameters to the returned writer, then varlink_call_send(). With
 * @continues (only where the call wants more) further replies follow. Never NULL; for a oneway call the bytes
 * go nowhere. After a final reply the call is gone when send returns.
 */
JsonWriter *varlink_call_reply(VarlinkCall *call, bool continues);
/* The same for an error, always final; @error is the full name. */
JsonWriter *varlink_call_error(VarlinkCall *call, const char *error);
/* Ends the message. A message that could not be built (no memory, over output_max) closes the connection. */
void varlink_call_send(VarlinkCall *call);

/* The writer of a reply that has been begun, and not sent. */
JsonWriter *varlink_call_get_writer(VarlinkCall *call);

/* The usual answers in one call each; all are final. They return 0, so that a handler can return them. */
int varlink_call_reply_empty(VarlinkCall *call);
int varlink_call_invalid_parameter(VarlinkCall *call, const char *parameter);
int varlink_call_permission_denied(VarlinkCall *call);
int varlink_call_expected_more(VarlinkCall *call);
/* io.systemd.System(errno), what systemd's tools print well; @error is -errno. */
int varlink_call_system_error(VarlinkCall *call, int error);

/*
 * For a call that is answered later: @closed runs when its connection goes away before a final reply (the
 * call is dead afterwards), @drained whenever its backlog has become empty. Either may be NULL. Both run from
 * the loop, never from within varlink_call_*(). A peer that has only shut down its sending half still gets
 * its replies.
 */
typedef void (*VarlinkCallFn)(VarlinkCall *call, void *userdata);
void varlink_call_watch(VarlinkCall *call, VarlinkCallFn closed, VarlinkCallFn drained, void *userdata);

/*
 * For a reply that takes longer to write than others should wait. It has been begun: in each of the turns
 * that follow @part, with the userdata of varlink_call_watch(), writes some more of it, until it sends it.
 * Nothing of it leaves before, and nothing else may be said on this call meanwhile.
 */
void varlink_call_write_in_parts(VarlinkCall *call, VarlinkCallFn part);
