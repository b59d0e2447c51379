/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Saved assignments. A file that is not good is neither repaired nor dropped, but set aside with the reason,
 * so that the operator can look at it and the broker starts. The table changes only after the whole file was
 * good.
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
        if (old->data)
                (void)fs_write_atomic(root_fd, path, old->data, old->n, FILE_MODE);
        else
                (void)unlinkat(root_fd, path, 0);
        return -error;
}

int assignment_store_save(int root_fd, const AssignmentTable *table, AssignmentOrigin origin,
                          const char *boot_id) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(ASSIGNMENT_RECORD_MAX);
        const char *path = assignment_store_path(origin);
        _cleanup_(old_deinit) Old old = {0};
        char directory[64];
        int r;

        r = old_read(root_fd, origin, boot_id, &old);
        if (r < 0)
                return r;
        r = assignment_record_write(table, origin, boot_id, old.record, &buffer);
        if (r == -ENOBUFS) /* what is ours has room; see ASSIGNMENT_RECORD_MAX */
                r = assignment_record_write(table, origin, boot_id, NULL, &buffer);
        if (r < 0)
                return r;
        (void)snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
        r = fs_mkdir_all(root_fd, directory, DIRECTORY_MODE);
        if (r < 0)
                return r;
        r = fs_write_atomic(root_fd, path, buffer.data + buffer.start, buffer_pending(&buffer), FILE_MODE);
        return r == FS_E_NOT_DURABLE ? take_back(root_fd, path, &old, errno) : r;
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
        return r < 0 ? r : add_all(table, &record->table);
}
