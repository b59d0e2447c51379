/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Saved assignments. What is read is believed only if it is what we would have written: every member, in its
 * range, no CPU twice. A file that is not is neither repaired nor dropped, but set aside with the reason, so
 * that the operator can look at it and the broker starts. The table changes only after the whole file was
 * good.
 *
 * Members that this build does not know mean nothing to it, and are kept for the one that wrote them: whoever
 * writes the file anew takes them over from the one that is there. An element's go when it becomes another
 * one.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/assignment-store.h"
#include "broker/member.h"
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

static const char *const root_members[] = {"version", "bootId", "assignments", NULL};
static const char *const element_members[] = {"cpus", "owner", "vm", "origin", "untilUSec", NULL};

/* What one element says; @vm is the element's. */
typedef struct Element {
        CpuSet cpus;
        AssignmentOwner owner;
        const char *vm;
        uint64_t until_usec;
} Element;

/* NULL, or the reason why @object is no element of @origin's file. */
static const char *read_element(struct json_object *object, AssignmentOrigin origin, Element *ret_element) {
        const char *owner, *said_origin;
        MemberReader reader;
        Element element;

        member_reader_init(&reader, object, "an assignment is not an object");
        member_get_cpus(&reader, "cpus", "cpus is not a list of CPUs", &element.cpus);
        owner = member_get_string(&reader, "owner", "owner is not an owner");
        element.owner = owner ? assignment_owner_from_string(owner) : _ASSIGNMENT_OWNER_INVALID;
        member_require(&reader, element.owner >= 0, "owner is not an owner");
        element.vm = member_get_optional_string(&reader, "vm", "vm is not a VM's name");
        member_require(&reader, !element.vm || request_vm_name_is_valid(element.vm), "vm is not a VM's name");
        member_require(&reader,
                       !element.vm || element.owner == ASSIGNMENT_OWNER_GUEST ||
                               element.owner == ASSIGNMENT_OWNER_ANY,
                       "a VM is named for an owner that is not guest or any");
        said_origin = member_get_string(&reader, "origin", "origin is another file's");
        member_require(&reader, said_origin && assignment_origin_from_string(said_origin) == origin,
                       "origin is another file's");
        element.until_usec = member_get_time(&reader, "untilUSec", "untilUSec is not a time");

        *ret_element = element;
        return reader.fault;
}

/* NULL, or the reason why @root is no such file. The list is NULL if it is another boot's, and says nothing.
 */
static const char *read_root(struct json_object *root, AssignmentOrigin origin, const char *boot_id,
                             struct json_object **ret_list) {
        struct json_object *list;
        const char *said_boot_id;
        MemberReader reader;

        member_reader_init(&reader, root, "not an object");
        (void)member_get_int(&reader, "version", FORMAT_VERSION, FORMAT_VERSION, "of another version");
        said_boot_id = member_get_string(&reader, "bootId", "bootId is not a boot's id");
        list = member_get_array(&reader, "assignments", "assignments is not a list");
        if (reader.fault)
                return reader.fault;

        *ret_list = origin == ASSIGNMENT_ORIGIN_RUNTIME && strcmp(said_boot_id, boot_id) != 0 ? NULL : list;
        return NULL;
}

/* The file that is there, and what it holds for another build: its own members, and those of elements. */
typedef struct Kept {
        char *data; /* NULL: there is none */
        size_t n;
        struct json_object *root;
        struct json_object *by_cpu[CPUSET_MAX]; /* elements by their lowest CPU; the root's */
} Kept;

static Kept *kept_free(Kept *kept) {
        if (kept) {
                json_object_put(kept->root);
                free(kept->data);
        }
        free(kept);
        return NULL;
}
DEFINE_CLEANUP(Kept *, kept_free)

/* A file that is not good, or of another boot, holds nothing. */
static int kept_new(int root_fd, AssignmentOrigin origin, const char *boot_id, Kept **ret_kept) {
        _cleanup_(kept_freep) Kept *kept = calloc(1, sizeof(*kept));
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        struct json_object *list;
        int r;

        if (!kept)
                return -ENOMEM;
        r = fs_read_all(root_fd, assignment_store_path(origin), FILE_SIZE_MAX, &kept->data, &kept->n);
        if (r == 0)
                r = json_read(kept->data, kept->n, &root, NULL);
        if (r < 0)
                return r;
        if (r == 0 && !read_root(root, origin, boot_id, &list) && list) {
                for (size_t i = 0; i < json_object_array_length(list); i++) {
                        struct json_object *object = json_object_array_get_idx(list, i);
                        Element element;

                        if (!read_element(object, origin, &element))
                                kept->by_cpu[cpuset_next(&element.cpus, 0)] = object;
                }
                kept->root = steal_ptr(root);
        }

        *ret_kept = steal_ptr(kept);
        return 0;
}

static bool is_known(const char *const *names, const char *name) {
        for (; *names; names++)
                if (strcmp(*names, name) == 0)
                        return true;

        return false;
}

/* Writes the members of @object that are not among @known. */
static void write_others(JsonWriter *w, struct json_object *object, const char *const *known) {
        json_object_object_foreach(object, name, value) {
                if (!is_known(known, name))
                        json_write_member(w, name, value);
        }
}

/* The element that @a was; NULL: it was not there, or was another one. */
static struct json_object *kept_find(const Kept *kept, const Assignment *a) {
        struct json_object *object = kept->by_cpu[cpuset_next(&a->cpus, 0)];
        Element element;

        if (!object || read_element(object, a->origin, &element) || !cpuset_equal(&element.cpus, &a->cpus) ||
            element.owner != a->owner || element.until_usec != a->until_usec || !element.vm != !a->vm ||
            (a->vm && strcmp(element.vm, a->vm) != 0))
                return NULL;

        return object;
}

static void write_assignment(JsonWriter *w, const Assignment *a, struct json_object *before) {
        json_write_object_begin(w, NULL);
        json_write_cpuset(w, "cpus", &a->cpus);
        json_write_string(w, "owner", assignment_owner_to_string(a->owner));
        json_write_string(w, "vm", a->vm);
        json_write_string(w, "origin", assignment_origin_to_string(a->origin));
        if (a->until_usec > INT64_MAX)
                json_write_null(w, "untilUSec");
        else
                json_write_int(w, "untilUSec", (int64_t)a->until_usec);
        if (before)
                write_others(w, before, element_members);
        json_write_object_end(w);
}

/* @kept: what the file that is there holds for another build, or NULL. */
static int write_file(const AssignmentTable *table, AssignmentOrigin origin, const char *boot_id,
                      const Kept *kept, Buffer *buffer) {
        JsonWriter w;
        int r;

        json_writer_init(&w, buffer);
        json_write_object_begin(&w, NULL);
        json_write_int(&w, "version", FORMAT_VERSION);
        json_write_string(&w, "bootId", boot_id);
        json_write_array_begin(&w, "assignments");
        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->origin == origin)
                        write_assignment(&w, table->entries[i],
                                         kept ? kept_find(kept, table->entries[i]) : NULL);
        json_write_array_end(&w);
        if (kept && kept->root)
                write_others(&w, kept->root, root_members);
        json_write_object_end(&w);
        r = json_writer_finish(&w);
        return r < 0 ? r : buffer_append(buffer, "\n", 1);
}

/* What fails has not happened: a file that is in its place, but may not be there after a crash, goes again.
 */
static int take_back(int root_fd, const char *path, const Kept *kept, int error) {
        if (kept->data)
                (void)fs_write_atomic(root_fd, path, kept->data, kept->n, FILE_MODE);
        else
                (void)unlinkat(root_fd, path, 0);
        return -error;
}

int assignment_store_save(int root_fd, const AssignmentTable *table, AssignmentOrigin origin,
                          const char *boot_id) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(FILE_SIZE_MAX);
        const char *path = assignment_store_path(origin);
        _cleanup_(kept_freep) Kept *kept = NULL;
        char directory[64];
        int r;

        r = kept_new(root_fd, origin, boot_id, &kept);
        if (r < 0)
                return r;
        r = write_file(table, origin, boot_id, kept, &buffer);
        if (r == -ENOBUFS) /* what is ours has room; see FILE_SIZE_MAX */
                r = write_file(table, origin, boot_id, NULL, &buffer);
        if (r < 0)
                return r;
        (void)snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
        r = fs_mkdir_all(root_fd, directory, DIRECTORY_MODE);
        if (r < 0)
                return r;
        r = fs_write_atomic(root_fd, path, buffer.data + buffer.start, buffer_pending(&buffer), FILE_MODE);
        return r == FS_E_NOT_DURABLE ? take_back(root_fd, path, kept, errno) : r;
}

/* Adds one element to @table. @taken are the CPUs of those before it. */
static int parse_assignment(struct json_object *object, AssignmentOrigin origin, CpuSet *taken,
                            AssignmentTable *table, const char **ret_reason) {
        const char *reason;
        Element element;

        reason = read_element(object, origin, &element);
        if (!reason && cpuset_intersects(&element.cpus, taken))
                reason = "a CPU is assigned twice";
        if (reason) {
                *ret_reason = reason;
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        }

        cpuset_or(taken, &element.cpus);
        return assignment_table_set(table, &element.cpus, element.owner, element.vm, origin,
                                    element.until_usec);
}

static int parse_root(struct json_object *root, AssignmentOrigin origin, const char *boot_id,
                      AssignmentTable *table, const char **ret_reason) {
        struct json_object *list;
        CpuSet taken = CPUSET_NULL;
        const char *reason;

        reason = read_root(root, origin, boot_id, &list);
        if (reason) {
                *ret_reason = reason;
                return ASSIGNMENT_STORE_E_SET_ASIDE;
        }

        for (size_t i = 0; list && i < json_object_array_length(list); i++) {
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
        const char *reason = NULL;
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

        (void)fs_remove_temporary(root_fd, path); /* of a broker that died; what stays is in nobody's way */
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
