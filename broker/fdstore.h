/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * systemd's store of file descriptors: what keeps host sessions off is kept there under its names, so that it
 * stays in force while the broker is dead, and the next one takes it over. Nothing is pinned; when the unit
 * stops, systemd drops it all.
 *
 * A copy in the store keeps an event or a program alive like this process's own. So what is not wanted any
 * more is let go of only when systemd has said that its copy is gone: until then it is held, and may be
 * wanted again.
 *
 * Without a store nothing is kept, and what is not wanted is let go of at once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "bpf/arbiter.h"
#include "bpf/gate.h"
#include "bpf/reserve.h"
#include "util/cleanup.h"
#include "util/cpuset.h"
#include "util/named-fd.h"

/*
 * Descriptors of an arbiter and of a gate, and pidfds of owners of leases; and those that are taken from
 * systemd at all: with a held event on each CPU. There cannot be many more: their names together are one
 * string of the next process's environment, and with more than FDSTORE_NAMES_MAX bytes, a ':' behind each,
 * the kernel would not start it (MAX_ARG_STRLEN is 128 KiB where pages are 4 KiB). So names are short.
 */
#define FDSTORE_PROGRAMS_MAX 64U
#define FDSTORE_OWNERS_MAX   4096U
#define FDSTORE_MAX          (CPUSET_MAX + FDSTORE_OWNERS_MAX + FDSTORE_PROGRAMS_MAX)
#define FDSTORE_NAMES_MAX    (120U << 10)

typedef struct FdStore FdStore;

/* systemd has dropped what was not wanted any more: fdstore_sync() can let go of it. */
typedef void (*FdStoreDroppedFn)(void *userdata);

/* Takes what systemd has handed to this process, once: sockets, and what an earlier process has kept. */
int fdstore_new(sd_event *event, FdStoreDroppedFn dropped, void *userdata, FdStore **ret_store);
/* Tells systemd nothing: that is what outlives. */
FdStore *fdstore_free(FdStore *store);
DEFINE_CLEANUP(FdStore *, fdstore_free)

/* The next listening socket that was handed over, the caller's from now on; -1: there is none. */
int fdstore_take_socket(FdStore *store);

/* What was kept, for arbitration_new(). A name may be there more than once, and lie. */
NamedFd *fdstore_get_handed(FdStore *store, size_t *ret_n);
/* The pidfds of owners among what was kept, for owner_store_new(); and how many there can be at once, with so
 * many bytes of names. The rest is for what keeps host sessions off, which nothing else can stand for. */
NamedFd *fdstore_get_owners(FdStore *store, size_t *ret_n);
size_t fdstore_get_owner_room(const FdStore *store, size_t *ret_bytes);
/* Of this machine, on line or not: events are held on so many at most. */
size_t fdstore_count_cpus(void);
/* Closes what nobody took over, and has systemd drop it; the handed ones are no more. */
void fdstore_drop_rest(FdStore *store);

/*
 * Brings the store to what @arbiter and @gate keep (NULL: nothing) and to the held events of @wanted, and
 * releases the others: at once, or in a later call, after dropped(). Call it after each change of what is
 * wanted; it looks no further where nothing has changed. Before fdstore_drop_rest() it does nothing.
 */
void fdstore_sync(FdStore *store, const Arbiter *arbiter, const Gate *gate, Reserve *reserve,
                  const CpuSet *wanted);

/* How many descriptors systemd keeps; 0: it has no store, SIZE_MAX: it does not say (before version 254). */
size_t fdstore_get_room(const FdStore *store);

/* Whether what is given to fdstore_sync() outlives this process, as far as systemd tells. */
bool fdstore_is_keeping(const FdStore *store);
