/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a VMM asks for. Only what was set is sent, so that everything else is the broker's decision, and an
 * older broker never sees a member that it does not know unless it was asked for.
 */

#include "libspebroker/request.h"

#include <errno.h>
#include <string.h>

#include "util/random.h"
#include "varlink/utf8.h"

struct spebroker_request {
        unsigned n_ref;
        unsigned vcpus;
        char *vm;
        char *cpus;
        char *instance;
        uint64_t buffer_size; /* 0: not set */
        bool exact;
        enum spebroker_mode mode;
        pid_t pid; /* 0: not set */
        char *cgroup;
        char *request_id;
};

static const char *const mode_words[] = {
        [SPEBROKER_MODE_DEFAULT] = NULL,
        [SPEBROKER_MODE_EXCLUSIVE] = "exclusive",
        [SPEBROKER_MODE_GUEST] = "guest",
        [SPEBROKER_MODE_SHARED] = "shared",
};

int spebroker_request_new(unsigned int vcpus, struct spebroker_request **ret_request) {
        struct spebroker_request *request;

        request = calloc(1, sizeof(*request));
        if (!request)
                return -ENOMEM;

        request->n_ref = 1;
        request->vcpus = vcpus;

        *ret_request = request;
        return 0;
}

struct spebroker_request *spebroker_request_ref(struct spebroker_request *request) {
        if (request)
                request->n_ref++;
        return request;
}

struct spebroker_request *spebroker_request_unref(struct spebroker_request *request) {
        if (!request || --request->n_ref > 0)
                return NULL;

        free(request->vm);
        free(request->cpus);
        free(request->instance);
        free(request->cgroup);
        free(request->request_id);
        free(request);
        return NULL;
}

/* The writer would mend invalid UTF-8, and two names might become one. */
static bool is_utf8(const char *text) {
        size_t left = strlen(text), n;

        for (; left > 0; text += n, left -= n) {
                n = utf8_sequence(text, left);
                if (n == 0)
                        return false;
        }

        return true;
}

static int set_string(char **string, const char *value) {
        char *copy = NULL;

        if (value) {
                if (!is_utf8(value))
                        return -EINVAL;

                copy = strdup(value);
                if (!copy)
                        return -ENOMEM;
        }

        free(*string);
        *string = copy;
        return 0;
}

int spebroker_request_set_vm(struct spebroker_request *request, const char *vm) {
        return set_string(&request->vm, vm);
}

int spebroker_request_set_cpus(struct spebroker_request *request, const char *cpus) {
        return set_string(&request->cpus, cpus);
}

int spebroker_request_set_instance(struct spebroker_request *request, const char *instance) {
        return set_string(&request->instance, instance);
}

int spebroker_request_set_buffer_size(struct spebroker_request *request, uint64_t bytes) {
        if (bytes > INT64_MAX)
                return -EINVAL;

        request->buffer_size = bytes;
        return 0;
}

void spebroker_request_set_exact(struct spebroker_request *request, bool exact) {
        request->exact = exact;
}

int spebroker_request_set_mode(struct spebroker_request *request, enum spebroker_mode mode) {
        if ((unsigned)mode >= ELEMENTS_OF(mode_words))
                return -EINVAL;

        request->mode = mode;
        return 0;
}

int spebroker_request_set_pid(struct spebroker_request *request, pid_t pid) {
        if (pid < 0)
                return -EINVAL;

        request->pid = pid;
        return 0;
}

int spebroker_request_set_cgroup(struct spebroker_request *request, const char *path) {
        return set_string(&request->cgroup, path);
}

int spebroker_request_set_request_id(struct spebroker_request *request, const char *id) {
        return set_string(&request->request_id, id);
}

/* What a failure leaves is freed with the copy. */
static int copy_strings(const struct spebroker_request *request, struct spebroker_request *copy) {
        int r;

        r = set_string(&copy->vm, request->vm);
        if (r == 0)
                r = set_string(&copy->cpus, request->cpus);
        if (r == 0)
                r = set_string(&copy->instance, request->instance);
        if (r == 0)
                r = set_string(&copy->cgroup, request->cgroup);
        if (r == 0)
                r = set_string(&copy->request_id, request->request_id);
        return r;
}

int request_copy(const struct spebroker_request *request, bool repeatable,
                 struct spebroker_request **ret_request) {
        _cleanup_(spebroker_request_unrefp) struct spebroker_request *copy = NULL;
        char id[RANDOM_ID_SIZE];
        int r;

        r = spebroker_request_new(request->vcpus, &copy);
        if (r < 0)
                return r;
        copy->buffer_size = request->buffer_size;
        copy->exact = request->exact;
        copy->mode = request->mode;
        copy->pid = request->pid;
        r = copy_strings(request, copy);
        if (r == 0 && repeatable && !copy->request_id) {
                r = random_id(id);
                if (r == 0)
                        r = set_string(&copy->request_id, id);
        }
        if (r < 0)
                return r;

        *ret_request = steal_ptr(copy);
        return 0;
}

static bool string_equal(const char *a, const char *b) {
        return a && b ? strcmp(a, b) == 0 : a == b;
}

bool request_asks_as(const struct spebroker_request *a, const struct spebroker_request *b) {
        return a->vcpus == b->vcpus && string_equal(a->vm, b->vm) && string_equal(a->cpus, b->cpus) &&
               string_equal(a->instance, b->instance) && a->buffer_size == b->buffer_size &&
               a->exact == b->exact && a->mode == b->mode && a->pid == b->pid &&
               string_equal(a->cgroup, b->cgroup);
}

bool request_has_id(const struct spebroker_request *request) {
        return request->request_id;
}

static void write_string(JsonWriter *writer, const char *key, const char *value) {
        if (value)
                json_write_string(writer, key, value);
}

void request_write(const struct spebroker_request *request, JsonWriter *writer) {
        json_write_object_begin(writer, "request");
        write_string(writer, "vm", request->vm);
        json_write_int(writer, "vcpus", request->vcpus);
        write_string(writer, "cpus", request->cpus);
        write_string(writer, "instance", request->instance);
        if (request->buffer_size > 0)
                json_write_int(writer, "bufferSize", (int64_t)request->buffer_size);
        if (request->exact)
                json_write_bool(writer, "exact", true);
        write_string(writer, "mode", mode_words[request->mode]);
        if (request->pid > 0)
                json_write_int(writer, "pid", request->pid);
        write_string(writer, "cgroup", request->cgroup);
        write_string(writer, "requestId", request->request_id);
        json_write_object_end(writer);
}
