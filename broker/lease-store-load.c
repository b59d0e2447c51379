/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What there is in the directory of leases as a broker starts. Anything may be: each entry is looked at
 * before it is opened, and nothing is renamed before all have been listed, or it could come along again.
 * Files are read, and what is wrong with them is told, in the order of their names, and leases found in that
 * of their age: a start does the same things in the same order, whatever order the directory has.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/lease-store-state.h"
#include "util/fs.h"
#include "util/random.h"

#define FOUND_FIRST 64U

/* A file that is called as a lease is, and what it says. */
typedef struct Found {
        char id[LEASE_ID_LENGTH + 1];
        LeaseRecord *record; /* NULL: nothing that counts */
} Found;

/* A run over the directory. */
typedef struct Load {
        LeaseStore *store;
        LeaseStoreProblemFn problem;
        void *userdata;
        Found *found;
        size_t n;
        size_t size;
        unsigned n_other_boot;
        unsigned n_strange;
        char strange[NAME_MAX + 1]; /* the first of them */
} Load;

static LeaseRecord *record_free(LeaseRecord *record) {
        if (record)
                lease_record_deinit(record);
        free(record);
        return NULL;
}
DEFINE_CLEANUP(LeaseRecord *, record_free)

static void load_deinit(Load *load) {
        for (size_t i = 0; i < load->n; i++)
                record_free(load->found[i].record);
        free(load->found);
}

static int add_found(Load *load, const char *id) {
        if (load->n == load->size) {
                size_t size = load->size > 0 ? load->size * 2 : FOUND_FIRST;
                Found *found = reallocarray(load->found, size, sizeof(Found));

                if (!found)
                        return -ENOMEM;
                load->found = found;
                load->size = size;
        }

        load->found[load->n] = (Found){0};
        (void)snprintf(load->found[load->n].id, sizeof(load->found[load->n].id), "%s", id);
        load->n++;
        return 0;
}

static void be_strange(Load *load, const char *name) {
        if (load->n_strange++ == 0)
                (void)snprintf(load->strange, sizeof(load->strange), "%s", name);
}

static bool is_bad(const char *name) {
        return strlen(name) == LEASE_ID_LENGTH + strlen(LEASE_STORE_BAD_SUFFIX) &&
               strcmp(name + LEASE_ID_LENGTH, LEASE_STORE_BAD_SUFFIX) == 0;
}

/* One entry of the directory. */
static int look_at(Load *load, const char *name) {
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return 0;
        if (fs_is_temporary(name) && unlinkat(load->store->fd, name, 0) == 0)
                return 0;
        if (is_bad(name)) {
                load->store->n_bad++;
                return 0;
        }
        if (random_id_is_valid(name) && load->n < LEASE_STORE_FILES_MAX)
                return add_found(load, name);

        be_strange(load, name);
        return 0;
}

static int scan(Load *load) {
        _cleanup_(closedirp) DIR *dir = NULL;
        struct dirent *entry;
        int fd, r;

        fd = openat(load->store->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                close(fd);
                return r;
        }

        while ((r = fs_readdir(dir, &entry)) == 0 && entry) {
                r = look_at(load, entry->d_name);
                if (r < 0)
                        return r;
        }
        return r;
}

/* The text of a file, which may be anything: nothing but a regular file is opened. */
static int read_file(const LeaseStore *store, const char *id, char **ret_data, size_t *ret_n,
                     const char **ret_reason) {
        struct stat st;
        int r;

        if (fstatat(store->fd, id, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = FS_E_UNREADABLE;
        else if (!S_ISREG(st.st_mode))
                r = FS_E_NOT_REGULAR;
        else
                r = fs_read_all(store->fd, id, LEASE_RECORD_MAX, ret_data, ret_n);
        if (r <= 0)
                return r;

        *ret_reason = fs_strerror(r);
        return LEASE_RECORD_E_BAD;
}

static int load_file(Load *load, Found *found) {
        _cleanup_(record_freep) LeaseRecord *record = calloc(1, sizeof(*record));
        _cleanup_(freep) char *data = NULL;
        LeaseStore *store = load->store;
        const char *reason;
        size_t n;
        int r;

        if (!record)
                return -ENOMEM;
        r = lease_store_know(store, found->id);
        if (r < 0)
                return r;
        r = read_file(store, found->id, &data, &n, &reason);
        if (r == 0)
                r = lease_record_parse(data, n, found->id, store->boot_id, record, &reason);

        switch (r) {
        case 0:
                found->record = steal_ptr(record);
                return 0;
        case LEASE_RECORD_E_OTHER_BOOT:
                load->n_other_boot++;
                lease_store_remove(store, found->id);
                return 0;
        case LEASE_RECORD_E_BAD:
                lease_store_set_aside(store, found->id, reason, load->problem, load->userdata);
                return 0;
        default:
                return r;
        }
}

static int compare_name(const void *a, const void *b) {
        return strcmp(((const Found *)a)->id, ((const Found *)b)->id);
}

/* The oldest lease first; those that do not count, last. */
static int compare_age(const void *a, const void *b) {
        const Found *x = a, *y = b;

        if (!x->record || !y->record)
                return !x->record - !y->record;
        if (x->record->since_usec != y->record->since_usec)
                return x->record->since_usec < y->record->since_usec ? -1 : 1;
        return strcmp(x->id, y->id);
}

static void sort(Load *load, int (*compare)(const void *, const void *)) {
        if (load->n > 0)
                qsort(load->found, load->n, sizeof(Found), compare);
}

static void tell_rest(const Load *load) {
        if (load->n_other_boot > 0)
                lease_store_tell(load->problem, load->userdata, "leases of another boot are removed",
                                 "/" LEASE_STORE_PATH ": removed %u lease%s of another boot",
                                 load->n_other_boot, load->n_other_boot == 1 ? "" : "s");
        if (load->n_strange > 0)
                lease_store_tell(
                        load->problem, load->userdata, "not only leases are among the leases",
                        "/" LEASE_STORE_PATH ": left alone %u file%s not the broker's, %s among them",
                        load->n_strange, load->n_strange == 1 ? " that is" : "s that are", load->strange);
}

int lease_store_load(LeaseStore *store, LeaseStoreFoundFn found, LeaseStoreProblemFn problem,
                     void *userdata) {
        _cleanup_(load_deinit) Load load = {.store = store, .problem = problem, .userdata = userdata};
        int r;

        r = scan(&load);
        if (r < 0)
                return r;
        sort(&load, compare_name);
        for (size_t i = 0; i < load.n; i++) {
                r = load_file(&load, &load.found[i]);
                if (r < 0)
                        return r;
        }
        tell_rest(&load);

        sort(&load, compare_age);
        for (size_t i = 0; i < load.n && load.found[i].record; i++) {
                _cleanup_(record_freep) LeaseRecord *record = steal_ptr(load.found[i].record);

                r = found(record, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}
