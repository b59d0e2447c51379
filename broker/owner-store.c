/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One entry for each descriptor that systemd has under such a name. While its process has leases, their
 * LeaseOwner holds the pidfd, and the entry none; before (it was handed over) and after (it lingers) the
 * entry does, to tell by it whether a process that comes with this name is the one that is stored.
 *
 * systemd reads in order, so a name that is removed and stored again at once is stored. It takes a second
 * descriptor of the same name for another one; as none could be told from the other when they are handed
 * over, no name is ever stored that may be there.
 */

#include "broker/owner-store.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "broker/fdstore-notify.h"
#include "broker/log.h"
#include "util/parse.h"

#define NAME_PREFIX     "owner-"
#define OWNER_NAME_SIZE 48U /* "owner-", a pid, "-", a start time */

/* So long, at most, an owner without leases lingers, and so many do. */
#define LINGER_USEC UINT64_C(1000000)
#define LINGER_MAX  64U

typedef struct Entry {
        pid_t pid;
        uint64_t start_time;
        int fd; /* -1: its leases' owner holds it */
        bool used;
        bool doubtful;           /* systemd has more than one of that name, or not that process */
        uint64_t since_usec;     /* CLOCK_MONOTONIC: it has no leases */
        TAILQ_ENTRY(Entry) link; /* handed, or lingering */
} Entry;

struct OwnerStore {
        sd_event *event;
        size_t room;
        size_t bytes; /* of names */
        size_t n;     /* what systemd has */
        size_t n_bytes;
        void *by_process; /* tsearch() */
        TAILQ_HEAD(EntryList, Entry) handed;
        TAILQ_HEAD(, Entry) lingering; /* the oldest first */
        size_t n_lingering;
        sd_event_source *timer;
        bool told; /* that something is not stored */
};

static int compare_processes(const void *a, const void *b) {
        const Entry *x = a, *y = b;

        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        return (x->start_time > y->start_time) - (x->start_time < y->start_time);
}

static Entry *find(const OwnerStore *store, pid_t pid, uint64_t start_time) {
        const Entry key = {.pid = pid, .start_time = start_time};
        Entry *const *found = tfind(&key, &store->by_process, compare_processes);

        return found ? *found : NULL;
}

static void format_name(pid_t pid, uint64_t start_time, char name[static OWNER_NAME_SIZE]) {
        (void)snprintf(name, OWNER_NAME_SIZE, NAME_PREFIX "%d-%" PRIu64, (int)pid, start_time);
}

/* Exactly as it is written: each process has one name. */
static bool parse_name(const char *name, pid_t *ret_pid, uint64_t *ret_start_time) {
        char digits[OWNER_NAME_SIZE], again[OWNER_NAME_SIZE], *dash;
        uint64_t pid, start_time;

        if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0 || strlen(name) >= sizeof(digits))
                return false;

        (void)snprintf(digits, sizeof(digits), "%s", name + strlen(NAME_PREFIX));
        dash = strchr(digits, '-');
        if (!dash)
                return false;
        *dash = '\0';
        if (parse_u64(digits, INT_MAX, &pid) || parse_u64(dash + 1, UINT64_MAX, &start_time) || pid == 0)
                return false;
        format_name((pid_t)pid, start_time, again);
        if (strcmp(again, name) != 0)
                return false;

        *ret_pid = (pid_t)pid;
        *ret_start_time = start_time;
        return true;
}

bool owner_store_is_name(const char *name) {
        uint64_t start_time;
        pid_t pid;

        return parse_name(name, &pid, &start_time);
}

/* In the list of names, with its separator. */
static size_t name_size(const Entry *entry) {
        char name[OWNER_NAME_SIZE];

        format_name(entry->pid, entry->start_time, name);
        return strlen(name) + 1;
}

static void tell_removed(const Entry *entry) {
        char name[OWNER_NAME_SIZE];

        format_name(entry->pid, entry->start_time, name);
        fdstore_tell_removed(name);
}

static int tell_stored(const Entry *entry, int pidfd) {
        char name[OWNER_NAME_SIZE];

        format_name(entry->pid, entry->start_time, name);
        return fdstore_tell_stored(name, pidfd);
}

static Entry *entry_free(Entry *entry) {
        if (!entry)
                return NULL;

        closep(&entry->fd);
        free(entry);
        return NULL;
}

DEFINE_CLEANUP(Entry *, entry_free)

static int entry_new(OwnerStore *store, pid_t pid, uint64_t start_time, Entry **ret_entry) {
        Entry *entry = calloc(1, sizeof(*entry));

        if (!entry)
                return -ENOMEM;
        *entry = (Entry){.pid = pid, .start_time = start_time, .fd = -1};
        if (!tsearch(entry, &store->by_process, compare_processes)) {
                free(entry);
                return -ENOMEM;
        }

        store->n++;
        store->n_bytes += name_size(entry);
        *ret_entry = entry;
        return 0;
}

/* Out of the table, and whatever list it is in. systemd has been told. */
static void drop(OwnerStore *store, struct EntryList *list, Entry *entry) {
        if (list)
                TAILQ_REMOVE(list, entry, link);
        tdelete(entry, &store->by_process, compare_processes);
        store->n--;
        store->n_bytes -= name_size(entry);
        entry_free(entry);
}

static void drop_lingering(OwnerStore *store, Entry *entry) {
        tell_removed(entry);
        TAILQ_REMOVE(&store->lingering, entry, link);
        store->n_lingering--;
        drop(store, NULL, entry);
}

static uint64_t now(const OwnerStore *store) {
        uint64_t usec = 0;

        (void)sd_event_now(store->event, CLOCK_MONOTONIC, &usec);
        return usec;
}

static void arm(OwnerStore *store) {
        const Entry *oldest = TAILQ_FIRST(&store->lingering);

        if (oldest)
                (void)sd_event_source_set_time(store->timer, oldest->since_usec + LINGER_USEC);
        (void)sd_event_source_set_enabled(store->timer, oldest ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        OwnerStore *store = userdata;
        Entry *entry;

        while ((entry = TAILQ_FIRST(&store->lingering)) && entry->since_usec + LINGER_USEC <= now(store))
                drop_lingering(store, entry);
        arm(store);
        return 0;
}

/* Of two descriptors with one name none can be told from the other: the first is looked at, and neither is
 * kept. */
static int take(OwnerStore *store, NamedFd *handed) {
        uint64_t start_time;
        Entry *entry;
        pid_t pid;
        int r;

        if (handed->fd < 0 || !parse_name(handed->name, &pid, &start_time))
                return 0;
        entry = find(store, pid, start_time);
        if (entry) {
                entry->doubtful = true;
                close(steal_fd(&handed->fd));
                return 0;
        }

        r = entry_new(store, pid, start_time, &entry);
        if (r < 0)
                return r;

        entry->fd = steal_fd(&handed->fd);
        TAILQ_INSERT_TAIL(&store->handed, entry, link);
        return 0;
}

int owner_store_new(sd_event *event, size_t room, size_t bytes, NamedFd *handed, size_t n_handed,
                    OwnerStore **ret_store) {
        _cleanup_(owner_store_freep) OwnerStore *store = calloc(1, sizeof(*store));
        int r;

        if (!store)
                return -ENOMEM;

        store->event = sd_event_ref(event);
        store->room = room;
        store->bytes = bytes;
        TAILQ_INIT(&store->handed);
        TAILQ_INIT(&store->lingering);
        r = sd_event_add_time(event, &store->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_timer, store);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(store->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        for (size_t i = 0; i < n_handed; i++) {
                r = take(store, &handed[i]);
                if (r < 0)
                        return r;
        }

        *ret_store = steal_ptr(store);
        return 0;
}

OwnerStore *owner_store_free(OwnerStore *store) {
        if (!store)
                return NULL;

        while (store->by_process) {
                Entry *entry = *(Entry *const *)store->by_process;

                tdelete(entry, &store->by_process, compare_processes);
                entry_free(entry);
        }
        sd_event_source_disable_unref(store->timer);
        sd_event_unref(store->event);
        free(store);
        return NULL;
}

int owner_store_find(OwnerStore *store, pid_t pid, uint64_t start_time, Owner **ret_owner) {
        Entry *entry = find(store, pid, start_time);
        _cleanup_(owner_freep) Owner *owner = NULL;
        int r;

        if (!entry || entry->fd < 0)
                return OWNER_STORE_E_NONE;

        r = owner_new_pidfd(entry->fd, &owner);
        if (r < 0)
                return r;
        if (r > 0 || owner->pid != pid || owner->start_time != start_time) {
                entry->doubtful = true;
                return OWNER_STORE_E_NONE;
        }

        *ret_owner = steal_ptr(owner);
        return 0;
}

/* Once for all that is not stored. */
static void tell_missing(OwnerStore *store, int r) {
        if (store->told)
                return;

        store->told = true;
        if (r == -EXFULL)
                log_message(
                        LOG_WARNING,
                        "systemd keeps too few file descriptors for the owners of all leases "
                        "(FileDescriptorStoreMax=): after a restart some are found by their pids and start "
                        "times");
        else
                log_message(LOG_WARNING,
                            "systemd cannot be given the owners of leases (%s): after a restart they are "
                            "found by "
                            "their pids and start times",
                            strerror(-r));
}

/* Takes @entry, which nobody used, out of its list: for its process if that is alive, else out of the store.
 */
static bool use_again(OwnerStore *store, Entry *entry) {
        const Owner stored = {.pid = entry->pid, .pidfd = entry->fd};
        bool handed = entry->since_usec == 0;

        if (entry->doubtful || !owner_is_alive(&stored)) {
                if (handed) {
                        tell_removed(entry);
                        drop(store, &store->handed, entry);
                } else
                        drop_lingering(store, entry);
                return false;
        }

        if (handed)
                TAILQ_REMOVE(&store->handed, entry, link);
        else {
                TAILQ_REMOVE(&store->lingering, entry, link);
                store->n_lingering--;
        }
        close(steal_fd(&entry->fd));
        entry->used = true;
        return true;
}

static bool has_room(const OwnerStore *store) {
        return store->n < store->room && store->n_bytes + OWNER_NAME_SIZE <= store->bytes;
}

void owner_store_add(OwnerStore *store, const Owner *owner) {
        Entry *entry;
        int r;

        if (store->room == 0 || owner->cgroup) /* which path and id name for good */
                return;
        entry = find(store, owner->pid, owner->start_time);
        if (entry && (entry->used || use_again(store, entry)))
                return;

        while (!has_room(store) && (entry = TAILQ_FIRST(&store->lingering)))
                drop_lingering(store, entry);
        r = has_room(store) ? entry_new(store, owner->pid, owner->start_time, &entry) : -EXFULL;
        if (r == 0) {
                r = tell_stored(entry, owner->pidfd);
                if (r < 0)
                        drop(store, NULL, entry);
        }
        if (r < 0) {
                tell_missing(store, r);
                return;
        }

        entry->used = true;
}

void owner_store_remove(OwnerStore *store, Owner *owner) {
        Entry *entry = owner->cgroup ? NULL : find(store, owner->pid, owner->start_time);

        if (!entry || !entry->used)
                return;

        entry->used = false;
        entry->fd = steal_fd(&owner->pidfd);
        entry->since_usec = now(store);
        TAILQ_INSERT_TAIL(&store->lingering, entry, link);
        store->n_lingering++;
        if (!owner_is_alive(&(const Owner){.pid = entry->pid, .pidfd = entry->fd}))
                drop_lingering(store, entry);
        else if (store->n_lingering > LINGER_MAX)
                drop_lingering(store, TAILQ_FIRST(&store->lingering));
        arm(store);
}

void owner_store_drop_rest(OwnerStore *store) {
        Entry *entry;

        while ((entry = TAILQ_FIRST(&store->handed))) {
                tell_removed(entry);
                drop(store, &store->handed, entry);
        }
}
