/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Saved assignments. What is read is believed only if it is exactly what we would have written: every member,
 * no other, no CPU twice. A file that is not is neither repaired nor dropped, but set aside with the reason,
 * so that the operator can look at it and the broker starts. The table changes only after the whole file was
 * good.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/assignment-store.h"
#include "broker/request.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/fs.h"
#include "varlink/buffer.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

#define FORMAT_VERSION 1

/* Every CPU in an assignment of its own, each for a VM with the longest name, escaped. */
#define FILE_SIZE_MAX (8U << 20)

#define DIRECTORY_MODE 0755
#define FILE_MODE      0644
#define BAD_SUFFIX     ".bad"

const char *assignment_store_path(AssignmentOrigin origin) {
        return origin == ASSIGNMENT_ORIGIN_RUNTIME ? ASSIGNMENT_STORE_RUNTIME_PATH
                                                   : ASSIGNMENT_STORE_PERSISTENT_PATH;
}

static void write_assignment(JsonWriter *w, const Assignment *a) {
        json_write_object_begin(w, NULL);
        json_write_cpuset(w, "cpus", &a->cpus);
        json_write_string(w, "owner", assignment_owner_to_string(a->owner));
        json_write_string(w, "vm", a->vm);
        json_write_string(w, "origin", assignment_origin_to_string(a->origin));
        if (a->until_usec > INT64_MAX)
                json_write_null(w, "untilUSec");
        else
                json_write_int(w, "untilUSec", (int64_t)a->until_usec);
        json_write_object_end(w);
}

static int write_file(const AssignmentTable *table, AssignmentOrigin origin, const char *boot_id,
                      Buffer *buffer) {
        JsonWriter w;
        int r;

        json_writer_init(&w, buffer);
        json_write_object_begin(&w, NULL);
        json_write_int(&w, "version", FORMAT_VERSION);
        json_write_string(&w, "bootId", boot_id);
        json_write_array_begin(&w, "assignments");
        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->origin == origin)
                        write_assignment(&w, table->entries[i]);
        json_write_array_end(&w);
        json_write_object_end(&w);
        r = json_writer_finish(&w);
        return r < 0 ? r : buffer_append(buffer, "\n", 1);
}

int assignment_store_save(int root_fd, const AssignmentTable *table, AssignmentOrigin origin,
                          const char *boot_id) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(FILE_SIZE_MAX);
        const char *path = assignment_store_path(origin);
        char directory[64];
        int r;

        r = write_file(table, origin, boot_id, &buffer);
        if (r < 0)
                return r;
        (void)snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
        r = fs_mkdir_all(root_fd, directory, DIRECTORY_MODE);
        if (r < 0)
                return r;
        return fs_write_atomic(root_fd, path, buffer.data + buffer.start, buffer_pending(&buffer), FILE_MODE);
}

/* The member @name of @object if it is of @type; JSON's null is json_type_null. */
static bool get(struct json_object *object, const char *name, enum json_type type,
                struct json_object **ret_value) {
        struct json_object *value;

        if (!json_object_object_get_ex(object, name, &value) || !json_object_is_type(value, type))
                return false;
        *ret_value = value;
        return true;
}

static bool get_string(struct json_object *object, const char *name, const char **ret_text) {
        struct json_object *value;

        if (!get(object, name, json_type_string, &value))
                return false;
        *ret_text = json_object_get_string(value);
        return true;
}

/* As get_string(), where null is a good value too. */
static bool get_optional_string(struct json_object *object, const char *name, const char **ret_text) {
        struct json_object *value;

        *ret_text = NULL;
        return get(object, name, json_type_null, &value) || get_string(object, name, ret_text);
}

static bool get_until(struct json_object *object, uint64_t *ret_usec) {
        struct json_object *value;

        *ret_usec = UINT64_MAX;
        if (get(object, "untilUSec", json_type_null, &value))
                return true;
        if (!get(object, "untilUSec", json_type_int, &value) || json_object_get_int64(value) < 0)
                return false;
        *ret_usec = (uint64_t)json_object_get_int64(value);
        return true;
}

static bool get_cpus(struct json_object *object, CpuSet *ret_cpus) {
        const char *text;

        return get_string(object, "cpus", &text) && cpuset_parse(text, strlen(text), ret_cpus) == 0 &&
               !cpuset_is_empty(ret_cpus);
}

static bool get_owner(struct json_object *object, AssignmentOwner *ret_owner) {
        const char *text;

        if (!get_string(object, "owner", &text))
                return false;
        *ret_owner = assignment_owner_from_string(text);
        return *ret_owner >= 0;
}

/* Adds one element to @table. @taken are the CPUs of those before it. */
static int parse_assignment(struct json_object *object, AssignmentOrigin origin, CpuSet *taken,
                            AssignmentTable *table, const char **ret_reason) {
        const char *vm, *origin_text;
        AssignmentOwner owner;
        uint64_t until_usec;
        CpuSet cpus;

        *ret_reason = "an assignment has not exactly the members cpus, owner, vm, origin, untilUSec";
        if (!json_object_is_type(object, json_type_object) || json_object_object_length(object) != 5)
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "cpus is not a list of CPUs";
        if (!get_cpus(object, &cpus))
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "a CPU is assigned twice";
        if (cpuset_intersects(&cpus, taken))
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "owner is not an owner";
        if (!get_owner(object, &owner))
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "vm is not a VM's name";
        if (!get_optional_string(object, "vm", &vm) || (vm && !request_vm_name_is_valid(vm)))
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "a VM is named for an owner that is not guest or any";
        if (vm && owner != ASSIGNMENT_OWNER_GUEST && owner != ASSIGNMENT_OWNER_ANY)
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "origin is another file's";
        if (!get_string(object, "origin", &origin_text) ||
            assignment_origin_from_string(origin_text) != origin)
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "untilUSec is not a time";
        if (!get_until(object, &until_usec))
                return ASSIGNMENT_STORE_E_SET_ASIDE;

        cpuset_or(taken, &cpus);
        return assignment_table_set(table, &cpus, owner, vm, origin, until_usec);
}

static int parse_root(struct json_object *root, AssignmentOrigin origin, const char *boot_id,
                      AssignmentTable *table, const char **ret_reason) {
        struct json_object *version, *list;
        CpuSet taken = CPUSET_NULL;
        const char *boot;

        *ret_reason = "not exactly the members version, bootId, assignments";
        if (!json_object_is_type(root, json_type_object) || json_object_object_length(root) != 3 ||
            !get(root, "version", json_type_int, &version) || !get_string(root, "bootId", &boot) ||
            !get(root, "assignments", json_type_array, &list))
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        *ret_reason = "of another version";
        if (json_object_get_int64(version) != FORMAT_VERSION)
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        if (origin == ASSIGNMENT_ORIGIN_RUNTIME && strcmp(boot, boot_id) != 0)
                return 0;

        for (size_t i = 0; i < json_object_array_length(list); i++) {
                int r = parse_assignment(json_object_array_get_idx(list, i), origin, &taken, table,
                                         ret_reason);

                if (r)
                        return r;
        }
        return 0;
}

int assignment_store_parse(const char *data, size_t n, AssignmentOrigin origin, const char *boot_id,
                           AssignmentTable *table, const char **ret_reason) {
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        _cleanup_(assignment_table_deinit) AssignmentTable fresh = ASSIGNMENT_TABLE_NULL;
        const char *reason;
        int r;

        r = json_read(data, n, &root, NULL);
        if (r > 0) {
                *ret_reason = json_read_strerror(r);
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        }
        if (r < 0)
                return r;
        r = parse_root(root, origin, boot_id, &fresh, &reason);
        if (r) {
                if (r > 0)
                        *ret_reason = reason;
                return r;
        }

        for (size_t i = 0; i < fresh.n; i++) {
                const Assignment *a = fresh.entries[i];

                r = assignment_table_set(table, &a->cpus, a->owner, a->vm, a->origin, a->until_usec);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Never fatal: a file that cannot be renamed stays, and that is told too. */
static int set_aside(int root_fd, const char *path, const char *reason, char **ret_problem) {
        char bad[64];
        int n;

        (void)snprintf(bad, sizeof(bad), "%s" BAD_SUFFIX, path);
        if (renameat(root_fd, path, root_fd, bad) == 0)
                n = asprintf(ret_problem, "/%s: %s; its assignments do not count, it is now /%s", path,
                             reason, bad);
        else
                n = asprintf(ret_problem,
                             "/%s: %s; its assignments do not count, and it cannot be renamed: %s", path,
                             reason, strerror(errno));
        return n < 0 ? -ENOMEM : ASSIGNMENT_STORE_E_SET_ASIDE;
}

int assignment_store_load(int root_fd, AssignmentOrigin origin, const char *boot_id, AssignmentTable *table,
                          char **ret_problem) {
        const char *path = assignment_store_path(origin), *reason = NULL;
        _cleanup_(freep) char *data = NULL;
        size_t n;
        int r;

        r = fs_read_all(root_fd, path, FILE_SIZE_MAX, &data, &n);
        if (r == FS_E_NOT_FOUND)
                return 0;
        if (r > 0)
                return set_aside(root_fd, path, fs_strerror(r), ret_problem);
        if (r < 0)
                return r;

        r = assignment_store_parse(data, n, origin, boot_id, table, &reason);
        return r > 0 ? set_aside(root_fd, path, reason, ret_problem) : r;
}
