/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Saved assignments. A file that is not good is neither repaired nor dropped, but set aside with the reason,
 * so that the operator can look at it and the broker starts. The table changes only after the whole file was
 * good.
 *
 * Two files cannot be replaced at once. So what takes CPUs from both is said in one, the persistent one, of
 * the other, which it knows by its id; writing that one anew is then no more than tidying up.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/assignment-record.h"
#include "broker/assignment-store.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/fs.h"

#define DIRECTORY_MODE 0755
#define FILE_MODE      0644
#define BAD_SUFFIX     ".bad"

const char *assignment_store_path(AssignmentOrigin origin) {
        return origin == ASSIGNMENT_ORIGIN_RUNTIME ? ASSIGNMENT_STORE_RUNTIME_PATH
                                                   : ASSIGNMENT_STORE_PERSISTENT_PATH;
}

/* The file that is there. */
typedef struct Old {
        char *data; /* NULL: there is none */
        size_t n;
        AssignmentRecord *record; /* NULL: it is not good */
} Old;

static void old_deinit(Old *old) {
        free(old->data);
        assignment_record_free(old->record);
}

static int old_read(int root_fd, AssignmentOrigin origin, const char *boot_id, Old *old) {
        const char *reason;
        int r;

        r = fs_read_all(root_fd, assignment_store_path(origin), ASSIGNMENT_RECORD_MAX, &old->data, &old->n);
        if (r == 0)
                r = assignment_record_parse(old->data, old->n, origin, boot_id, &old->record, &reason);
        return r < 0 ? r : 0;
}

/* What fails has not happened: a file that is in its place, but may not be there after a crash, goes again.
 */
static int take_back(int root_fd, const char *path, const Old *old, int error) {
        if (!old->data)
                (void)unlinkat(root_fd, path, 0);
        else if (fs_write_atomic(root_fd, path, old->data, old->n, FILE_MODE) < 0)
                (void)fs_write_transient(root_fd, path, old->data, old->n, FILE_MODE);
        return -error;
}

/* Puts @head and @table's entries of @origin in the place of @old. */
static int replace(int root_fd, const Old *old, const AssignmentHead *head, const AssignmentTable *table,
                   AssignmentOrigin origin, const char *boot_id) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(ASSIGNMENT_RECORD_MAX);
        const char *path = assignment_store_path(origin);
        char directory[64];
        int r;

        r = assignment_record_write(head, table, origin, boot_id, old->record, &buffer);
        if (r == -ENOBUFS) /* what is ours has room; see ASSIGNMENT_RECORD_MAX */
                r = assignment_record_write(head, table, origin, boot_id, NULL, &buffer);
        if (r < 0)
                return r;
        (void)snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
        r = fs_mkdir_all(root_fd, directory, DIRECTORY_MODE);
        if (r < 0)
                return r;
        r = fs_write_atomic(root_fd, path, buffer.data + buffer.start, buffer_pending(&buffer), FILE_MODE);
        return r == FS_E_NOT_DURABLE ? take_back(root_fd, path, old, errno) : r;
}

static int save_runtime(int root_fd, const AssignmentTable *table, const char *boot_id,
                        AssignmentHead *ret_head) {
        _cleanup_(old_deinit) Old old = {0};
        AssignmentHead head = {0};
        int r;

        r = old_read(root_fd, ASSIGNMENT_ORIGIN_RUNTIME, boot_id, &old);
        if (r == 0)
                r = random_id(head.id);
        if (r == 0)
                r = replace(root_fd, &old, &head, table, ASSIGNMENT_ORIGIN_RUNTIME, boot_id);
        if (r < 0)
                return r;

        *ret_head = head;
        return 0;
}

/*
 * @cpus: which are to count no more in the runtime file @id, or NULL. What counts no more there already stays
 * so for as long as it may be there: until another has taken CPUs from it.
 */
static int save_persistent(int root_fd, const AssignmentTable *table, const char *boot_id, const char *id,
                           const CpuSet *cpus) {
        _cleanup_(old_deinit) Old old = {0};
        AssignmentHead head = {0};
        int r;

        r = old_read(root_fd, ASSIGNMENT_ORIGIN_PERSISTENT, boot_id, &old);
        if (r < 0)
                return r;
        if (old.record)
                head = old.record->head;
        if (cpus) {
                if (strcmp(head.unassigned_id, id) != 0)
                        head.unassigned = CPUSET_NULL;
                memcpy(head.unassigned_id, id, sizeof(head.unassigned_id));
                cpuset_or(&head.unassigned, cpus);
        }

        return replace(root_fd, &old, &head, table, ASSIGNMENT_ORIGIN_PERSISTENT, boot_id);
}

int assignment_store_save(int root_fd, const AssignmentTable *table, AssignmentOrigin origin,
                          const char *boot_id) {
        AssignmentHead head;

        return origin == ASSIGNMENT_ORIGIN_RUNTIME ? save_runtime(root_fd, table, boot_id, &head)
                                                   : save_persistent(root_fd, table, boot_id, NULL, NULL);
}

/* What the runtime file is called. One that has no id, or is not good, is written anew. */
static int name_runtime(int root_fd, const AssignmentTable *table, const char *boot_id,
                        AssignmentHead *ret_head) {
        _cleanup_(old_deinit) Old old = {0};
        int r;

        r = old_read(root_fd, ASSIGNMENT_ORIGIN_RUNTIME, boot_id, &old);
        if (r < 0)
                return r;
        if (!old.record || !*old.record->head.id)
                return save_runtime(root_fd, table, boot_id, ret_head);

        *ret_head = old.record->head;
        return 0;
}

int assignment_store_save_both(int root_fd, const AssignmentTable *before, const AssignmentTable *table,
                               const CpuSet *cpus, const char *boot_id) {
        AssignmentHead head;
        int r;

        r = name_runtime(root_fd, before, boot_id, &head);
        if (r < 0)
                return r;
        r = save_persistent(root_fd, table, boot_id, head.id, cpus);
        if (r < 0)
                return r;

        /* That is it. If this fails, the file that stays says the same already. */
        (void)save_runtime(root_fd, table, boot_id, &head);
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

static int add_all(AssignmentTable *table, const AssignmentTable *more) {
        for (size_t i = 0; i < more->n; i++) {
                const Assignment *a = more->entries[i];
                int r;

                r = assignment_table_set(table, &a->cpus, a->owner, a->vm, a->origin, a->until_usec);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Takes from runtime ones what persistent ones say does not count any more. */
static int drop_unassigned(int root_fd, const char *boot_id, AssignmentRecord *record) {
        _cleanup_(old_deinit) Old persistent = {0};
        const AssignmentHead *head;
        int r;

        r = old_read(root_fd, ASSIGNMENT_ORIGIN_PERSISTENT, boot_id, &persistent);
        if (r < 0 || !persistent.record)
                return r;

        head = &persistent.record->head;
        if (cpuset_is_empty(&head->unassigned) || strcmp(head->unassigned_id, record->head.id) != 0)
                return 0;
        return assignment_table_clear(&record->table, &head->unassigned, ASSIGNMENT_ORIGIN_RUNTIME);
}

int assignment_store_load(int root_fd, AssignmentOrigin origin, const char *boot_id, AssignmentTable *table,
                          char **ret_problem) {
        _cleanup_(assignment_record_freep) AssignmentRecord *record = NULL;
        const char *path = assignment_store_path(origin), *reason;
        _cleanup_(freep) char *data = NULL;
        size_t n;
        int r;

        (void)fs_remove_temporary(root_fd, path); /* of a broker that died; what stays is in nobody's way */
        r = fs_read_all(root_fd, path, ASSIGNMENT_RECORD_MAX, &data, &n);
        if (r == FS_E_NOT_FOUND)
                return 0;
        if (r > 0)
                return set_aside(root_fd, path, fs_strerror(r), ret_problem);
        if (r < 0)
                return r;

        r = assignment_record_parse(data, n, origin, boot_id, &record, &reason);
        if (r > 0)
                return set_aside(root_fd, path, reason, ret_problem);
        if (r == 0 && origin == ASSIGNMENT_ORIGIN_RUNTIME)
                r = drop_unassigned(root_fd, boot_id, record);
        return r < 0 ? r : add_all(table, &record->table);
}
