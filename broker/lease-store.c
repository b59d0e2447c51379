/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The directory of leases. The store knows every file that it has written or found, so that one that cannot
 * be removed is remembered without memory that might not be had just then. Nothing waits for the disk: below
 * /run there is none, and elsewhere (--root) a file is worth nothing after the boot that it was written in.
 *
 * Nobody but the broker may write here, and few may read: a lease's request id is its owner's alone, and what
 * ReadGroup keeps from people is not to be read here instead.
 */

#include "broker/lease-store.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/lease-store-state.h"
#include "util/fs.h"

#define PARENT_PATH "run/spe-broker"
#define NAME        "leases"
#define PARENT_MODE 0755
#define MODE        0700
#define FILE_MODE   0600
#define PATH_OF     "/" LEASE_STORE_PATH "/"

static int compare_id(const void *a, const void *b) {
        return strcmp(((const LeaseFile *)a)->id, ((const LeaseFile *)b)->id);
}

static LeaseFile *find(const LeaseStore *store, const char *id) {
        LeaseFile key, **found;

        (void)snprintf(key.id, sizeof(key.id), "%s", id);
        found = tfind(&key, &store->by_id, compare_id);
        return found ? *found : NULL;
}

int lease_store_know(LeaseStore *store, const char *id) {
        LeaseFile *file, **found;

        file = calloc(1, sizeof(*file));
        if (!file)
                return -ENOMEM;

        (void)snprintf(file->id, sizeof(file->id), "%s", id);
        found = tsearch(file, &store->by_id, compare_id);
        if (!found || *found != file)
                free(file);
        return found ? 0 : -ENOMEM;
}

static void forget(LeaseStore *store, LeaseFile *file) {
        if (file->doomed)
                TAILQ_REMOVE(&store->doomed, file, doomed_link);
        tdelete(file, &store->by_id, compare_id);
        free(file);
}

static void doom(LeaseStore *store, LeaseFile *file) {
        if (!file->doomed)
                TAILQ_INSERT_TAIL(&store->doomed, file, doomed_link);
        file->doomed = true;
}

int lease_store_new(int root_fd, const char *boot_id, LeaseStore **ret_store) {
        _cleanup_(lease_store_freep) LeaseStore *store = NULL;
        _cleanup_(closep) int parent_fd = -1;
        int r;

        store = calloc(1, sizeof(*store));
        if (!store)
                return -ENOMEM;
        store->fd = -1;
        TAILQ_INIT(&store->doomed);
        (void)snprintf(store->boot_id, sizeof(store->boot_id), "%s", boot_id);

        r = fs_mkdir_all(root_fd, PARENT_PATH, PARENT_MODE);
        if (r < 0)
                return r;
        parent_fd = openat(root_fd, PARENT_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return -errno;
        if (mkdirat(parent_fd, NAME, MODE) < 0 && errno != EEXIST)
                return -errno;
        store->fd = openat(parent_fd, NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (store->fd < 0)
                return -errno;

        *ret_store = steal_ptr(store);
        return 0;
}

LeaseStore *lease_store_free(LeaseStore *store) {
        if (!store)
                return NULL;

        tdestroy(store->by_id, free);
        closep(&store->fd);
        free(store);
        return NULL;
}

int lease_store_save(LeaseStore *store, const Lease *lease) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_MAX);
        bool fresh;
        int r;

        r = lease_store_flush(store);
        if (r < 0)
                return r;
        r = lease_record_write(lease, store->boot_id, &buffer);
        if (r < 0)
                return r;
        fresh = !find(store, lease->id);
        if (fresh) {
                r = lease_store_know(store, lease->id);
                if (r < 0)
                        return r;
        }

        r = fs_write_transient(store->fd, lease->id, buffer.data + buffer.start, buffer_pending(&buffer),
                               FILE_MODE);
        if (r < 0 && fresh)
                forget(store, find(store, lease->id));
        return r;
}

static int remove_file(LeaseStore *store, LeaseFile *file) {
        if (unlinkat(store->fd, file->id, 0) < 0 && errno != ENOENT)
                return -errno;

        forget(store, file);
        return 0;
}

void lease_store_remove(LeaseStore *store, const char *lease_id) {
        LeaseFile *file = find(store, lease_id);

        if (file && remove_file(store, file) < 0)
                doom(store, file);
}

int lease_store_flush(LeaseStore *store) {
        LeaseFile *file;

        while ((file = TAILQ_FIRST(&store->doomed))) {
                int r = remove_file(store, file);

                if (r < 0)
                        return r;
        }

        return 0;
}

void lease_store_tell(LeaseStoreProblemFn problem, void *userdata, const char *otherwise, const char *format,
                      ...) {
        char *sentence;
        va_list args;
        int n;

        va_start(args, format);
        n = vasprintf(&sentence, format, args);
        va_end(args);
        if (n < 0) {
                problem(otherwise, userdata);
                return;
        }

        problem(sentence, userdata);
        free(sentence);
}

/* Renames what is called @id, whatever it is. */
static int rename_bad(LeaseStore *store, const char *id) {
        char bad[LEASE_ID_LENGTH + sizeof(LEASE_STORE_BAD_SUFFIX)];

        if (store->n_bad >= LEASE_STORE_BAD_MAX)
                return -EDQUOT;

        (void)snprintf(bad, sizeof(bad), "%s" LEASE_STORE_BAD_SUFFIX, id);
        if (renameat(store->fd, id, store->fd, bad) < 0)
                return -errno;

        store->n_bad++;
        return 0;
}

void lease_store_set_aside(LeaseStore *store, const char *lease_id, const char *reason,
                           LeaseStoreProblemFn problem, void *userdata) {
        LeaseFile *file = find(store, lease_id);
        int r;

        r = rename_bad(store, lease_id);
        if (r == 0)
                lease_store_tell(
                        problem, userdata, reason,
                        PATH_OF
                        "%s: %s; the lease does not count, the file is now called %s" LEASE_STORE_BAD_SUFFIX,
                        lease_id, reason, lease_id);
        else if (r == -EDQUOT)
                lease_store_tell(
                        problem, userdata, reason,
                        PATH_OF
                        "%s: %s; the lease does not count, and the file is removed: %u such files are "
                        "kept already",
                        lease_id, reason, LEASE_STORE_BAD_MAX);
        else
                lease_store_tell(problem, userdata, reason,
                                 PATH_OF
                                 "%s: %s; the lease does not count, and the file cannot be renamed: %s",
                                 lease_id, reason, strerror(-r));

        if (file)
                lease_store_remove(store, lease_id);
}
