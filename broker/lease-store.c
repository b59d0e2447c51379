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

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "broker/manager.h"
#include "util/fs.h"

#define FOUND_FIRST 64U

#define PARENT_PATH "run/spe-broker"
#define NAME        "leases"
#define PARENT_MODE 0755
#define MODE        0700
#define FILE_MODE   0600
#define BAD_SUFFIX  ".bad"
#define PATH_OF     "/" LEASE_STORE_PATH "/"

/* One file that is there, as far as we know. */
typedef struct LeaseFile {
        char id[LEASE_ID_LENGTH + 1];
        bool doomed;
        TAILQ_ENTRY(LeaseFile) doomed_link;
} LeaseFile;

struct LeaseStore {
        int fd;
        char boot_id[BOOT_ID_LENGTH + 1];
        void *by_id;                    /* tsearch() */
        TAILQ_HEAD(, LeaseFile) doomed; /* to be removed, as soon as they can be */
        unsigned n_bad;
};

static int compare_id(const void *a, const void *b) {
        return strcmp(((const LeaseFile *)a)->id, ((const LeaseFile *)b)->id);
}

static LeaseFile *find(const LeaseStore *store, const char *id) {
        LeaseFile key, **found;

        (void)snprintf(key.id, sizeof(key.id), "%s", id);
        found = tfind(&key, &store->by_id, compare_id);
        return found ? *found : NULL;
}

static int add(LeaseStore *store, const char *id) {
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
                r = add(store, lease->id);
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

/* Tells a sentence, or without memory for it @otherwise. */
__attribute__((__format__(printf, 4, 5))) static void tell(LeaseStoreProblemFn problem, void *userdata,
                                                           const char *otherwise, const char *format, ...) {
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
        char bad[LEASE_ID_LENGTH + sizeof(BAD_SUFFIX)];

        if (store->n_bad >= LEASE_STORE_BAD_MAX)
                return -EDQUOT;

        (void)snprintf(bad, sizeof(bad), "%s" BAD_SUFFIX, id);
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
                tell(problem, userdata, reason,
                     PATH_OF "%s: %s; the lease does not count, the file is now called %s" BAD_SUFFIX,
                     lease_id, reason, lease_id);
        else if (r == -EDQUOT)
                tell(problem, userdata, reason,
                     PATH_OF "%s: %s; the lease does not count, and the file is removed: %u such files are "
                             "kept already",
                     lease_id, reason, LEASE_STORE_BAD_MAX);
        else
                tell(problem, userdata, reason,
                     PATH_OF "%s: %s; the lease does not count, and the file cannot be renamed: %s", lease_id,
                     reason, strerror(-r));

        if (file)
                lease_store_remove(store, lease_id);
}

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
        return strlen(name) == LEASE_ID_LENGTH + strlen(BAD_SUFFIX) &&
               strcmp(name + LEASE_ID_LENGTH, BAD_SUFFIX) == 0;
}

/* One entry of the directory. Nothing is renamed yet: it could come along again. */
static int look_at(Load *load, const char *name) {
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return 0;
        if (fs_is_temporary(name) && unlinkat(load->store->fd, name, 0) == 0)
                return 0;
        if (is_bad(name)) {
                load->store->n_bad++;
                return 0;
        }
        if (lease_record_id_is_valid(name) && load->n < LEASE_STORE_FILES_MAX)
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
        r = add(store, found->id);
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
                tell(load->problem, load->userdata, "leases of another boot are removed",
                     "/" LEASE_STORE_PATH ": removed %u lease%s of another boot", load->n_other_boot,
                     load->n_other_boot == 1 ? "" : "s");
        if (load->n_strange > 0)
                tell(load->problem, load->userdata, "not only leases are among the leases",
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
        sort(&load, compare_name); /* a directory has no order, and what is told should have one */
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
