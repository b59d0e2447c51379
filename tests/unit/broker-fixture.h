/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A whole broker in the test's process: a real Manager on the simulated host biglittle (arm_spe_0 has CPUs
 * 0-3, arm_spe_1 has 4-11) below a directory of its own, and clients on socketpairs. Children that do nothing
 * stand for VMMs. Whoever waits does so in the broker's loop, with a deadline.
 */

#include <ftw.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <json-c/json.h>
#include <json-c/json_pointer.h>

#include "broker/manager.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fs.h"
#include "varlink/json-read.h"

#include "tests/unit/fd-fixture.h"
#include "tests/unit/no-uevents.h"

#define BROKER  "io.spebroker.Broker."
#define ADMIN   "io.spebroker.Admin."
#define SERVICE "org.varlink.service."

#define DEADLINE_USEC     UINT64_C(30000000)
#define MESSAGE_MAX       (4U * 1024 * 1024)
#define OTHER_USER        65534
#define LONG_USEC         "3600000000"
#define CHILD_IGNORES_ALL 1

typedef struct Broker {
        sd_event *event;
        Manager *manager;
        char path[32];
} Broker;

/* One connection to it; and the process at its other end, if that is not the test. */
typedef struct Client {
        Broker *broker;
        int fd;
        pid_t pid;
        char *received;
        size_t n_received;
        struct json_object *message; /* the last one: lives until the next */
} Client;

static inline void broker_start(Broker *broker) {
        ManagerOptions options = {.root = broker->path, .simulate = "biglittle"};

        assert_int_equal(sd_event_new(&broker->event), 0);
        assert_int_equal(manager_new(broker->event, &options, &broker->manager), 0);
}

static inline void broker_stop(Broker *broker) {
        broker->manager = manager_free(broker->manager);
        broker->event = sd_event_unref(broker->event);
}

/* Whoever runs the tests is an administrator, root or not. */
static inline int broker_write_config(const char *path) {
        char name[64];
        FILE *f;

        (void)snprintf(name, sizeof(name), "%s/etc", path);
        if (mkdir(name, 0755) < 0)
                return -1;
        (void)snprintf(name, sizeof(name), "%s/etc/spe-broker", path);
        if (mkdir(name, 0755) < 0)
                return -1;
        (void)snprintf(name, sizeof(name), "%s/etc/spe-broker/spe-broker.conf", path);
        f = fopen(name, "we");
        if (!f)
                return -1;

        (void)fprintf(f,
                      "[Policy]\nAdminGroup=%u\nAcquireGroup=%u\nRevokeGraceSec=10\n"
                      "[Limits]\nMaxMemory=3G\nMaxLeasesPerUser=4096\n",
                      (unsigned)getgid(), (unsigned)getgid());
        return fclose(f);
}

_unused_ static int broker_setup(void **state) {
        Broker *broker = calloc(1, sizeof(*broker));

        if (!broker)
                return -1;
        strcpy(broker->path, "/tmp/spe-test-XXXXXX");
        if (!mkdtemp(broker->path) || broker_write_config(broker->path) < 0)
                return -1;

        (void)signal(SIGPIPE, SIG_IGN);
        broker_start(broker);
        *state = broker;
        return 0;
}

static inline int broker_remove_one(const char *path, _unused_ const struct stat *st, _unused_ int type,
                                    _unused_ struct FTW *ftw) {
        return remove(path);
}

_unused_ static int broker_teardown(void **state) {
        Broker *broker = *state;
        int r;

        broker_stop(broker);
        r = nftw(broker->path, broker_remove_one, 16, FTW_DEPTH | FTW_PHYS);
        free(broker);
        return r;
}

/* All that can happen without time passing. */
static inline void broker_pump(Broker *broker) {
        while (sd_event_run(broker->event, 0) > 0)
                ;
}

/* Runs the broker until @condition, which must come true before the deadline. */
#define broker_wait(broker, condition)                                                  \
        do {                                                                            \
                uint64_t _deadline = clock_now_usec() + DEADLINE_USEC;                  \
                                                                                        \
                broker_pump(broker);                                                    \
                while (!(condition)) {                                                  \
                        assert_true(clock_now_usec() < _deadline);                      \
                        assert_true(sd_event_run((broker)->event, DEADLINE_USEC) >= 0); \
                        broker_pump(broker);                                            \
                }                                                                       \
        } while (0)

/* In a child: keeps @fd, as number 3, and nothing else: or the peers of our sockets would not see them close.
 */
static inline int child_close_all_but(int fd) {
        if (fd != 3 && dup2(fd, 3) < 0)
                _exit(1);
        (void)close_range(4, ~0U, 0);
        return 3;
}

/* A process that waits for its end; with CHILD_IGNORES_ALL it ignores what can be ignored. */
_unused_ static pid_t child_new(int how) {
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)signal(SIGTERM, how == CHILD_IGNORES_ALL ? SIG_IGN : SIG_DFL);
                (void)!write(child_close_all_but(ready[1]), "", 1);
                for (;;)
                        pause();
        }

        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        return pid;
}

/* Waits for its end; the signal that ended it, or 0. */
_unused_ static int child_wait(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

_unused_ static void child_kill(pid_t pid) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(child_wait(pid), SIGKILL);
}

static inline Client *client_add(Broker *broker, const int fds[static 2], pid_t pid) {
        Client *client = calloc(1, sizeof(*client));

        assert_non_null(client);
        *client = (Client){.broker = broker, .fd = fds[0], .pid = pid, .received = malloc(MESSAGE_MAX)};
        assert_non_null(client->received);
        assert_int_equal(varlink_server_add_connection_fd(broker->manager->server, fds[1]), 0);
        return client;
}

/* A connection of the test's own process, an administrator. */
_unused_ static Client *client_new(Broker *broker) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        return client_add(broker, fds, 0);
}

/* A connection that a process of user @uid has made, who is nobody special. Only root can have one. */
_unused_ static Client *client_new_as(Broker *broker, uid_t uid) {
        int way[2], fds[2];
        pid_t pid;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, way), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                way[1] = child_close_all_but(way[1]);
                if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 ||
                    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                        _exit(1);
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                send_fd(way[1], fds[0]);
                send_fd(way[1], fds[1]);
                for (;;)
                        pause();
        }

        close(way[1]);
        fds[0] = receive_fd(way[0]);
        fds[1] = receive_fd(way[0]);
        close(way[0]);
        return client_add(broker, fds, pid);
}

_unused_ static void client_disconnect(Client *client) {
        closep(&client->fd);
        client->fd = -1;
        broker_pump(client->broker);
}

_unused_ static void client_free(Client *client) {
        client_disconnect(client);
        if (client->pid > 0)
                child_kill(client->pid);
        json_object_put(client->message);
        free(client->received);
        free(client);
}

DEFINE_CLEANUP(Client *, client_free)

/* Sends a call; @format makes its parameters, or is NULL. */
__attribute__((__format__(__printf__, 4, 0))) static inline void
client_vsend(Client *client, const char *method, bool more, const char *format, va_list ap) {
        _cleanup_(freep) char *parameters = NULL, *message = NULL;
        int n;

        if (format)
                assert_true(vasprintf(&parameters, format, ap) >= 0);
        n = asprintf(&message, "{\"method\":\"%s\",\"parameters\":%s,\"more\":%s}", method,
                     parameters ?: "{}", more ? "true" : "false");
        assert_true(n > 0);
        assert_int_equal(send(client->fd, message, (size_t)n + 1, MSG_NOSIGNAL), n + 1);
        broker_pump(client->broker);
}

__attribute__((__format__(__printf__, 4, 5))) _unused_ static void
client_send(Client *client, const char *method, bool more, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        client_vsend(client, method, more, format, ap);
        va_end(ap);
}

/* True if a whole message is there. */
static inline bool client_has_message(Client *client) {
        ssize_t n;

        while ((n = recv(client->fd, client->received + client->n_received, MESSAGE_MAX - client->n_received,
                         MSG_DONTWAIT)) > 0) {
                client->n_received += (size_t)n;
                broker_pump(client->broker);
        }

        return memchr(client->received, '\0', client->n_received);
}

/* The next message, which must come before the deadline. */
_unused_ static struct json_object *client_receive(Client *client) {
        size_t n;

        broker_wait(client->broker, client_has_message(client));
        n = strlen(client->received);
        json_object_put(client->message);
        assert_int_equal(json_read(client->received, n, &client->message, NULL), 0);
        client->n_received -= n + 1;
        memmove(client->received, client->received + n + 1, client->n_received);
        return client->message;
}

/* True if nothing has been answered, and nothing will be without time or somebody else's doing. */
_unused_ static bool client_is_silent(Client *client) {
        broker_pump(client->broker);
        return !client_has_message(client);
}

__attribute__((__format__(__printf__, 3, 4))) _unused_ static struct json_object *
client_call(Client *client, const char *method, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        client_vsend(client, method, false, format, ap);
        va_end(ap);
        return client_receive(client);
}

/* The value at a JSON pointer, "/parameters/lease/state"; it must be there, but may be null. */
_unused_ static struct json_object *at(struct json_object *object, const char *pointer) {
        struct json_object *value = NULL;

        if (json_pointer_get(object, pointer, &value) < 0)
                fail_msg("no %s in %s", pointer, json_object_to_json_string(object));
        return value;
}

_unused_ static const char *text_at(struct json_object *object, const char *pointer) {
        return json_object_get_string(at(object, pointer));
}

_unused_ static int64_t int_at(struct json_object *object, const char *pointer) {
        assert_true(json_object_is_type(at(object, pointer), json_type_int));
        return json_object_get_int64(at(object, pointer));
}

_unused_ static bool bool_at(struct json_object *object, const char *pointer) {
        assert_true(json_object_is_type(at(object, pointer), json_type_boolean));
        return json_object_get_boolean(at(object, pointer));
}

#define assert_text(object, pointer, text) assert_string_equal(text_at(object, pointer), text)
#define assert_null_at(object, pointer)    assert_null(at(object, pointer))
#define assert_error(object, name)         assert_string_equal(text_at(object, "/error"), name)
#define assert_fine(object)                                                          \
        do {                                                                         \
                if (json_object_object_get(object, "error"))                         \
                        fail_msg("refused: %s", json_object_to_json_string(object)); \
        } while (0)
#define assert_invalid(object, parameter)                                \
        do {                                                             \
                assert_error(object, SERVICE "InvalidParameter");        \
                assert_text(object, "/parameters/parameter", parameter); \
        } while (0)

typedef struct LeaseId {
        char text[LEASE_ID_LENGTH + 1];
} LeaseId;

/* The id in a reply of Acquire. */
_unused_ static LeaseId lease_id(struct json_object *reply) {
        LeaseId id;

        assert_fine(reply);
        assert_int_equal(strlen(text_at(reply, "/parameters/lease/leaseId")), LEASE_ID_LENGTH);
        strcpy(id.text, text_at(reply, "/parameters/lease/leaseId"));
        return id;
}

/* A lease of @vm on @cpus for process @pid, granted. */
_unused_ static LeaseId acquire_for(Client *client, pid_t pid, const char *vm, const char *cpus,
                                    const char *mode) {
        return lease_id(client_call(client, BROKER "Acquire",
                                    "{\"request\":{\"vm\":\"%s\",\"vcpus\":1,\"cpus\":\"%s\",\"mode\":\"%s\","
                                    "\"bufferSize\":4096,\"pid\":%i}}",
                                    vm, cpus, mode, (int)pid));
}

_unused_ static Lease *find(const Broker *broker, LeaseId id) {
        return lease_find(&broker->manager->leases, id.text);
}

/* Nothing is leased, nobody waits, and all accounts are empty. */
_unused_ static void assert_idle(const Broker *broker) {
        const Manager *manager = broker->manager;
        CpuSet claimed = CPUSET_NULL;

        assert_int_equal(manager->leases.n, 0);
        assert_int_equal(manager->leases.n_waiting, 0);
        assert_int_equal(manager->leases.n_revoked, 0);
        for (size_t i = 0; i < ELEMENTS_OF(manager->leases.by_id); i++)
                assert_true(LIST_EMPTY(&manager->leases.by_id[i]));
        assert_null(manager->owners.by_key);
        assert_true(LIST_EMPTY(&manager->leases.revoking));
        assert_int_equal(manager->model.ledger.total.bytes, 0);
        assert_null(manager->model.ledger.users);
        for (LeaseMode mode = 0; mode < _LEASE_MODE_MAX; mode++) {
                assert_true(cpuset_is_empty(&manager->model.occupancy.held[mode]));
                cpuset_or(&claimed, &manager->claims.by_mode[mode]);
        }
        assert_true(cpuset_is_empty(&claimed));
}
