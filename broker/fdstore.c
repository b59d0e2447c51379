/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A table of what systemd has, by name, with a duplicate of each descriptor. The duplicate tells whether what
 * has a name now is still what was stored under it (a descriptor's number does not: it is reused), and holds
 * what leaves until systemd has let go of its copy: a barrier behind the removals tells when. systemd reads
 * in order, so what is stored anew behind a removal stays.
 */

#include "broker/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-daemon.h>

#include "broker/fdstore-notify.h"
#include "broker/log.h"
#include "broker/owner-store.h"
#include "util/parse.h"

/* In the list of names, with a ':'. PMU types are numbers of two digits or three. */
#define ARBITER_NAME_SIZE sizeof("arbiter-0123456789abcdef-tracepoints")
#define RESERVE_NAME_SIZE sizeof("reserve-99999-4095")
/* Older ones do not say how much they keep. */
#define ROOM_UNKNOWN SIZE_MAX

typedef struct Copy {
        char *name;
        int fd;           /* a duplicate; -1: there was no room for one */
        uint64_t leaving; /* the barrier behind its removal; 0: it stays */
        bool met;         /* by whoever goes through the table */
} Copy;

struct FdStore {
        sd_event *event;
        FdStoreDroppedFn dropped;
        void *userdata;

        int *sockets; /* -1 once taken */
        size_t n_sockets;
        NamedFd *handed; /* each with the copy at the same index, until fdstore_drop_rest() */
        size_t n_handed;
        NamedFd *owners; /* handed over as well: broker/owner-store.h has them */
        size_t n_owners;

        size_t room; /* for how many descriptors; 0: there is no store */
        Copy *copies;
        size_t n_copies;
        size_t n_sorted; /* of them, the first so many by name */

        /* What the last fdstore_sync() was about. */
        bool stale; /* it did not do all of it */
        bool told;  /* that has been logged */
        size_t n_programs;
        CpuSet wanted;
        uint64_t generation; /* of the reserve */

        uint64_t barrier; /* the number of the last one */
        int barrier_fd;   /* hangs up when systemd has come to it; -1: none is under way */
        sd_event_source *barrier_source;
};

static bool can_tell(const char *name) {
        size_t n = strlen(name);

        if (n == 0 || n > FDSTORE_NAME_MAX)
                return false;
        for (size_t i = 0; i < n; i++)
                if (name[i] < ' ' || name[i] > '~')
                        return false; /* a line of its own, it would mean something else */

        return true;
}

static void tell_removed(const char *name) {
        if (can_tell(name))
                fdstore_tell_removed(name);
}

static int compare_copies(const void *a, const void *b) {
        return strcmp(((const Copy *)a)->name, ((const Copy *)b)->name);
}

static Copy *find_copy(const FdStore *store, const char *name) {
        Copy key = {.name = (char *)name};

        if (store->n_sorted == 0)
                return NULL;
        return bsearch(&key, store->copies, store->n_sorted, sizeof(key), compare_copies);
}

static void copy_deinit(Copy *copy) {
        free(copy->name);
        if (copy->fd >= 0)
                close(copy->fd);
        *copy = (Copy){.fd = -1};
}

/* In order again, without those that have been deinitialised. */
static void tidy(FdStore *store) {
        size_t n = 0;

        for (size_t i = 0; i < store->n_copies; i++)
                if (store->copies[i].name)
                        store->copies[n++] = store->copies[i];
        store->n_copies = store->n_sorted = n;
        if (n > 0)
                qsort(store->copies, n, sizeof(*store->copies), compare_copies);
}

/* Room for @n copies more. */
static int reserve_copies(FdStore *store, size_t n) {
        Copy *copies;

        if (n == 0)
                return 0;

        copies = realloc(store->copies, (store->n_copies + n) * sizeof(*copies));
        if (!copies)
                return -ENOMEM;
        store->copies = copies;
        return 0;
}

/* Takes the name over. */
static void add_copy(FdStore *store, char *name, int fd) {
        store->copies[store->n_copies++] = (Copy){
                .name = name,
                .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3),
        };
}

/* Where the kernel does not say, they are two. */
static bool is_same_file(int a, int b) {
        return a >= 0 && b >= 0 &&
               syscall(SYS_kcmp, (long)getpid(), (long)getpid(), (long)KCMP_FILE, (long)a, (long)b) == 0;
}

static size_t find_room(void) {
        const char *size = getenv("FDSTORE"); /* since systemd 254, where there is a store */
        uint64_t room;

        if (!getenv("NOTIFY_SOCKET"))
                return 0;
        if (!size)
                return ROOM_UNKNOWN;
        return parse_u64(size, SIZE_MAX, &room) == 0 ? (size_t)room : 0;
}

/* Sorts what systemd handed over into sockets and what was kept. What is too much is let go of. */
static int take_handed(FdStore *store, size_t n, char **names) {
        store->sockets = calloc(n, sizeof(*store->sockets));
        store->handed = calloc(n, sizeof(*store->handed));
        store->owners = calloc(n, sizeof(*store->owners));
        if (!store->sockets || !store->handed || !store->owners)
                return -ENOMEM;
        if (reserve_copies(store, n) < 0)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + (int)i;

                if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0) {
                        store->sockets[store->n_sockets++] = fd;
                        continue;
                }

                if (owner_store_is_name(names[i]) && store->n_owners < FDSTORE_OWNERS_MAX) {
                        store->owners[store->n_owners++] = (NamedFd){.name = steal_ptr(names[i]), .fd = fd};
                        continue;
                }
                if (store->n_handed == FDSTORE_MAX) {
                        tell_removed(names[i]);
                        close(fd);
                        continue;
                }

                store->handed[store->n_handed++] = (NamedFd){.name = names[i], .fd = fd};
                add_copy(store, steal_ptr(names[i]), fd);
        }

        return 0;
}

int fdstore_new(sd_event *event, FdStoreDroppedFn dropped, void *userdata, FdStore **ret_store) {
        _cleanup_(fdstore_freep) FdStore *store = NULL;
        char **names = NULL;
        int n, r;

        store = calloc(1, sizeof(*store));
        if (!store)
                return -ENOMEM;

        store->event = sd_event_ref(event);
        store->dropped = dropped;
        store->userdata = userdata;
        store->barrier_fd = -1;
        store->room = find_room();
        store->stale = true;

        n = sd_listen_fds_with_names(true, &names);
        if (n < 0)
                return n;
        if (n > 0) {
                r = take_handed(store, (size_t)n, names);
                for (int i = 0; i < n; i++)
                        free(names[i]);
                free(names);
                if (r < 0)
                        return r;
        }

        *ret_store = steal_ptr(store);
        return 0;
}

FdStore *fdstore_free(FdStore *store) {
        if (!store)
                return NULL;

        for (int fd; (fd = fdstore_take_socket(store)) >= 0;)
                close(fd);
        for (size_t i = 0; i < store->n_handed; i++)
                if (store->handed[i].fd >= 0)
                        close(store->handed[i].fd);
        for (size_t i = 0; i < store->n_owners; i++) {
                free((char *)store->owners[i].name);
                closep(&store->owners[i].fd);
        }
        for (size_t i = 0; i < store->n_copies; i++)
                copy_deinit(&store->copies[i]);
        sd_event_source_disable_unref(store->barrier_source);
        if (store->barrier_fd >= 0)
                close(store->barrier_fd);
        sd_event_unref(store->event);
        free(store->sockets);
        free(store->handed);
        free(store->owners);
        free(store->copies);
        free(store);
        return NULL;
}

int fdstore_take_socket(FdStore *store) {
        for (size_t i = 0; i < store->n_sockets; i++)
                if (store->sockets[i] >= 0)
                        return steal_fd(&store->sockets[i]);

        return -1;
}

NamedFd *fdstore_get_handed(FdStore *store, size_t *ret_n) {
        *ret_n = store->n_handed;
        return store->handed;
}

NamedFd *fdstore_get_owners(FdStore *store, size_t *ret_n) {
        *ret_n = store->n_owners;
        return store->owners;
}

size_t fdstore_count_cpus(void) {
        long n = sysconf(_SC_NPROCESSORS_CONF);

        return n > 0 && n < (long)CPUSET_MAX ? (size_t)n : CPUSET_MAX;
}

size_t fdstore_get_owner_room(const FdStore *store, size_t *ret_bytes) {
        size_t n_cpus = fdstore_count_cpus(), reserved = FDSTORE_PROGRAMS_MAX + n_cpus, room;

        *ret_bytes =
                FDSTORE_NAMES_MAX - FDSTORE_PROGRAMS_MAX * ARBITER_NAME_SIZE - n_cpus * RESERVE_NAME_SIZE;
        room = store->room > reserved ? store->room - reserved : 0;
        return room < FDSTORE_OWNERS_MAX ? room : FDSTORE_OWNERS_MAX;
}

/* Of copies with one name, none can be told from the others by it: they all go, and what is wanted of them is
 * stored anew. */
static void drop_doubtful(FdStore *store) {
        size_t end;

        for (size_t i = 0; i < store->n_copies; i = end) {
                const char *name = store->copies[i].name;
                bool all_met = true;

                for (end = i; end < store->n_copies && strcmp(store->copies[end].name, name) == 0; end++)
                        all_met = all_met && store->copies[end].met;
                if (all_met && end - i == 1)
                        continue;

                tell_removed(name);
                for (size_t k = i; k < end; k++)
                        copy_deinit(&store->copies[k]);
        }
        tidy(store);
}

void fdstore_drop_rest(FdStore *store) {
        size_t n = 0;

        for (size_t i = 0; i < store->n_handed; i++) {
                store->copies[i].met = store->handed[i].fd < 0;
                if (store->copies[i].met)
                        continue;

                close(store->handed[i].fd);
                if (n++ == 0)
                        log_message(LOG_INFO,
                                    "file descriptor '%s' from systemd is of no use here and is closed",
                                    can_tell(store->handed[i].name) ? store->handed[i].name : "?");
        }
        if (n > 1)
                log_message(LOG_INFO, "and so are %zu others", n - 1);

        store->n_handed = 0;
        tidy(store);
        drop_doubtful(store);
}

static void barrier_passed(FdStore *store, uint64_t number) {
        for (size_t i = 0; i < store->n_copies; i++)
                if (store->copies[i].leaving > 0 && store->copies[i].leaving <= number)
                        copy_deinit(&store->copies[i]);
        tidy(store);
}

static int on_barrier(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static int send_barrier(FdStore *store) {
        _cleanup_(closep) int ours = -1, theirs = -1;
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        ours = fds[0];
        theirs = fds[1];

        r = sd_pid_notify_with_fds(0, false, "BARRIER=1", &theirs, 1);
        if (r <= 0)
                return r < 0 ? r : -ENOTCONN;
        r = sd_event_add_io(store->event, &store->barrier_source, ours, 0, on_barrier, store);
        if (r < 0)
                return r;

        store->barrier_fd = steal_fd(&ours);
        return 0;
}

/* Has systemd tell when it has come to the removals; if it cannot, that they are done is taken for granted.
 */
static void wait_for_removals(FdStore *store) {
        bool leaving = false;

        for (size_t i = 0; i < store->n_copies && !leaving; i++)
                leaving = store->copies[i].leaving > 0;
        if (!leaving || store->barrier_fd >= 0)
                return;

        store->barrier++;
        if (send_barrier(store) < 0)
                barrier_passed(store, store->barrier);
}

static int on_barrier(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents,
                      void *userdata) {
        FdStore *store = userdata;

        store->barrier_source = sd_event_source_disable_unref(store->barrier_source);
        close(steal_fd(&store->barrier_fd));
        barrier_passed(store, store->barrier);
        wait_for_removals(store);
        store->dropped(store->userdata);
        return 0;
}

static void remove_unmet(FdStore *store) {
        for (size_t i = 0; i < store->n_copies; i++) {
                Copy *copy = &store->copies[i];

                if (copy->met || copy->leaving > 0)
                        continue;
                tell_removed(copy->name);
                copy->leaving = store->barrier + 1;
        }
}

/* @n counts what systemd has, and is to keep. */
static int store_one(FdStore *store, const NamedFd *wish, size_t *n) {
        _cleanup_(freep) char *name = NULL;
        Copy *copy = find_copy(store, wish->name);
        int r;

        if (copy && copy->leaving == 0) {
                if (is_same_file(copy->fd, wish->fd))
                        return 0;

                tell_removed(copy->name);
                copy->leaving = store->barrier + 1;
                (*n)--;
        }

        if (*n >= store->room)
                return -EXFULL;
        if (!copy) {
                name = strdup(wish->name);
                if (!name)
                        return -ENOMEM;
        }
        r = fdstore_tell_stored(wish->name, wish->fd);
        if (r < 0)
                return r;

        (*n)++;
        if (!copy) {
                add_copy(store, steal_ptr(name), wish->fd);
                return 0;
        }
        if (copy->fd >= 0)
                close(copy->fd);
        copy->fd = fcntl(wish->fd, F_DUPFD_CLOEXEC, 3);
        copy->leaving = 0;
        return 0;
}

/* Removals first: they make room. What cannot be stored does not keep the others from it. */
static int store_all(FdStore *store, const NamedFd *wishes, size_t n_wishes) {
        size_t n = 0;
        int r = 0;

        for (size_t i = 0; i < store->n_copies; i++)
                store->copies[i].met = false;
        for (size_t i = 0; i < n_wishes; i++) {
                Copy *copy = find_copy(store, wishes[i].name);

                if (copy)
                        copy->met = true;
        }
        remove_unmet(store);

        if (reserve_copies(store, n_wishes) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < store->n_copies; i++)
                n += store->copies[i].leaving == 0;
        for (size_t i = 0; i < n_wishes; i++)
                r = store_one(store, &wishes[i], &n) ?: r;

        tidy(store);
        wait_for_removals(store);
        return r;
}

static int store_wanted(FdStore *store, const NamedFd *kept, size_t n_kept, const Reserve *reserve,
                        const CpuSet *wanted) {
        size_t n = n_kept, n_wanted = cpuset_count(wanted);
        _cleanup_(freep) NamedFd *wishes = calloc(n_kept + n_wanted + 1, sizeof(*wishes));
        _cleanup_(freep) char(*names)[RESERVE_NAME_MAX] = calloc(n_wanted + 1, sizeof(*names));

        if (!wishes || !names)
                return -ENOMEM;

        for (size_t i = 0; i < n_kept; i++)
                wishes[i] = kept[i];
        CPUSET_FOREACH(cpu, wanted) {
                char *name = names[n - n_kept];
                int fd;

                if (reserve_get_kept(reserve, cpu, name, &fd))
                        wishes[n++] = (NamedFd){.name = name, .fd = fd};
        }

        return store_all(store, wishes, n);
}

static bool has_changed(const FdStore *store, const NamedFd *kept, size_t n_kept, const Reserve *reserve,
                        const CpuSet *wanted) {
        if (store->stale || n_kept != store->n_programs || !cpuset_equal(wanted, &store->wanted) ||
            reserve_get_generation(reserve) != store->generation)
                return true;

        for (size_t i = 0; i < n_kept; i++) {
                const Copy *copy = find_copy(store, kept[i].name);

                if (!copy || !is_same_file(copy->fd, kept[i].fd))
                        return true;
        }

        return false;
}

/* Once for as long as it does not work. */
static void complain(FdStore *store, int r) {
        if (r == -EXFULL && !store->told)
                log_message(LOG_WARNING,
                            "systemd keeps %zu file descriptors (FileDescriptorStoreMax=): too few for all "
                            "that keeps host sessions off, some of which ends with this process",
                            store->room);
        else if (r < 0 && !store->told)
                log_message(LOG_WARNING, "what keeps host sessions off ends with this process: %s",
                            strerror(-r));
        store->told = r < 0;
}

/* What systemd has, or may have, a copy of stays held. */
static void release_rest(const FdStore *store, Reserve *reserve, const CpuSet *wanted) {
        CpuSet rest = *reserve_get_held(reserve);

        cpuset_subtract(&rest, wanted);
        CPUSET_FOREACH(cpu, &rest) {
                char name[RESERVE_NAME_MAX];
                int fd;

                if (reserve_get_kept(reserve, cpu, name, &fd) && !find_copy(store, name))
                        reserve_release(reserve, cpu);
        }
}

void fdstore_sync(FdStore *store, const Arbiter *arbiter, const Gate *gate, Reserve *reserve,
                  const CpuSet *wanted) {
        NamedFd kept[FDSTORE_PROGRAMS_MAX];
        size_t n_kept = 0;

        if (store->n_handed > 0)
                return; /* what systemd has is not known yet */
        if (arbiter)
                n_kept = arbiter_get_kept(arbiter, kept, ELEMENTS_OF(kept));
        if (gate && n_kept < ELEMENTS_OF(kept))
                n_kept += gate_get_kept(gate, kept + n_kept, ELEMENTS_OF(kept) - n_kept);
        if (n_kept > ELEMENTS_OF(kept))
                n_kept = ELEMENTS_OF(kept);

        if (store->room > 0 && has_changed(store, kept, n_kept, reserve, wanted)) {
                int r = store_wanted(store, kept, n_kept, reserve, wanted);

                store->n_programs = n_kept;
                store->wanted = *wanted;
                store->stale = r < 0;
                complain(store, r);
        }

        release_rest(store, reserve, wanted);
        store->generation = reserve_get_generation(reserve);
}

size_t fdstore_get_room(const FdStore *store) {
        return store->room;
}

bool fdstore_is_keeping(const FdStore *store) {
        return store->room > 0 && !store->stale;
}
