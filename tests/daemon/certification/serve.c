/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The service's role, on varlink/server. It says 'ok' to End only if every step came, in order, as it should.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/daemon/certification/steps.h"
#include "util/fs.h"
#include "varlink/json-read.h"
#include "varlink/server/server.h"

#define CLIENTS_MAX 64U
#define IDL_MAX     ((size_t)64 * 1024)

typedef struct Service {
        unsigned n_clients;
        size_t progress[CLIENTS_MAX]; /* the step that each client has completed */
} Service;

static int fail_client_id(VarlinkCall *call) {
        varlink_call_error(call, CERTIFICATION ".ClientIdError");
        varlink_call_send(call);
        return 0;
}

static int fail_certification(VarlinkCall *call, struct json_object *wants, struct json_object *got) {
        JsonWriter *writer = varlink_call_error(call, CERTIFICATION ".CertificationError");

        json_write_json(writer, "wants", wants);
        json_write_json(writer, "got", got);
        varlink_call_send(call);
        return 0;
}

static int on_start(VarlinkCall *call, _unused_ struct json_object *parameters, void *userdata) {
        Service *service = userdata;
        char id[32];

        if (service->n_clients == CLIENTS_MAX)
                return -EUSERS;
        (void)snprintf(id, sizeof(id), "client-%u", service->n_clients++);
        json_write_string(varlink_call_reply(call, false), "client_id", id);
        varlink_call_send(call);
        return 0;
}

static size_t *find_progress(Service *service, struct json_object *parameters) {
        const char *id = json_object_get_string(json_object_object_get(parameters, "client_id"));
        unsigned i;

        if (sscanf(id, "client-%u", &i) != 1 || i >= service->n_clients) /* NOLINT(cert-err34-c) */
                return NULL;
        return &service->progress[i];
}

static void reply_object(VarlinkCall *call, struct json_object *object) {
        JsonWriter *writer = varlink_call_reply(call, false);

        json_object_object_foreach(object, key, value) json_write_json(writer, key, value);
        varlink_call_send(call);
}

static void reply_stream(VarlinkCall *call, struct json_object *gives) {
        struct json_object *texts = json_object_object_get(gives, "last_more_replies");

        for (size_t i = 0; i < STREAM_REPLIES; i++) {
                json_write_json(varlink_call_reply(call, i + 1 < STREAM_REPLIES), "string",
                                json_object_array_get_idx(texts, i));
                varlink_call_send(call);
        }
}

/* One step: in turn, with exactly what the step before gave. */
static int on_step(VarlinkCall *call, struct json_object *parameters, Service *service, size_t step) {
        _cleanup_(json_object_putp) struct json_object *takes = NULL, *gives = NULL;
        size_t *progress = find_progress(service, parameters);

        if (!progress)
                return fail_client_id(call);

        takes = step == STEP_END ? json_object_new_object() : step_takes(step);
        if (*progress + 1 != step || !value_equal(parameters, takes))
                return fail_certification(call, takes, parameters);

        *progress = step;
        gives = step_gives(step);
        if (step == STEP_STREAM)
                reply_stream(call, gives);
        else
                reply_object(call, gives);
        return 0;
}

#define HANDLER(step)                                                                                  \
        static int on_step_##step(VarlinkCall *call, struct json_object *parameters, void *userdata) { \
                return on_step(call, parameters, userdata, step);                                      \
        }
HANDLER(1)
HANDLER(2)
HANDLER(3)
HANDLER(4)
HANDLER(5)
HANDLER(6)
HANDLER(7)
HANDLER(8)
HANDLER(9)
HANDLER(10)
HANDLER(11)
HANDLER(12)

static const VarlinkMethod methods[] = {
        {.name = "Start", .handler = on_start},
        {.name = "Test01", .handler = on_step_1},
        {.name = "Test02", .handler = on_step_2},
        {.name = "Test03", .handler = on_step_3},
        {.name = "Test04", .handler = on_step_4},
        {.name = "Test05", .handler = on_step_5},
        {.name = "Test06", .handler = on_step_6},
        {.name = "Test07", .handler = on_step_7},
        {.name = "Test08", .handler = on_step_8},
        {.name = "Test09", .handler = on_step_9},
        {.name = "Test10", .handler = on_step_10, .requires_more = true},
        {.name = "Test11", .handler = on_step_11},
        {.name = "End", .handler = on_step_12},
};

static const VarlinkServiceInfo info = {
        .vendor = "spe-broker",
        .product = "certification",
        .version = SPE_VERSION,
        .url = "https://spebroker.io",
};

static int listen_path(const char *path, int *ret_fd) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(closep) int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0)
                return -errno;

        *ret_fd = steal_fd(&fd);
        return 0;
}

static int serve(sd_event *event, const char *path, const char *idl) {
        _cleanup_(varlink_server_freep) VarlinkServer *server = NULL;
        _cleanup_(closep) int fd = -1;
        Service service = {0};
        int r;

        r = varlink_server_new(event, &info, &server);
        if (r != 0)
                return r;
        r = varlink_server_add_interface(server, idl, methods, ELEMENTS_OF(methods), &service);
        if (r != 0)
                return r;
        r = listen_path(path, &fd);
        if (r < 0)
                return r;
        r = varlink_server_listen_fd(server, fd);
        if (r < 0)
                return r;
        steal_fd(&fd);

        return sd_event_loop(event);
}

int certification_serve(const char *path, const char *idl_path) {
        _cleanup_(freep) char *idl = NULL;
        sd_event *event = NULL;
        size_t n;
        int r;

        r = fs_read_all(AT_FDCWD, idl_path, IDL_MAX, &idl, &n);
        if (r == 0)
                r = sd_event_new(&event);
        if (r >= 0)
                r = serve(event, path, idl);
        sd_event_unref(event);

        fprintf(stderr, "serve: %d\n", r);
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
