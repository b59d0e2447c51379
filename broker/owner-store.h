/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The pidfds of owners in systemd's store of file descriptors, each as "owner-PID-STARTTIME": with one, the
 * next broker knows the process for certain. It is there before the owner's first lease is granted, and goes
 * a moment after the last has ended, so that a process which acquires and releases all the time is not
 * systemd's business as well. Once the process is dead it goes at once.
 *
 * What does not fit there, or cannot be stored, is only found by its pid and start time, as without systemd.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "host/owner.h"
#include "util/cleanup.h"
#include "util/named-fd.h"

enum {
        _OWNER_STORE_E_SUCCESS,
        OWNER_STORE_E_NONE, /* there is none of that name, or it is not that process, or that is dead */
};

typedef struct OwnerStore OwnerStore;

/* True if @name is one of those above. */
bool owner_store_is_name(const char *name);

/*
 * @room: for how many descriptors systemd has room, with @bytes of names and a ':' behind each; 0: it keeps
 * none. @handed: what an earlier process has stored; those whose names are of owners become the store's, and
 * are -1 then.
 */
int owner_store_new(sd_event *event, size_t room, size_t bytes, NamedFd *handed, size_t n_handed,
                    OwnerStore **ret_store);
/* Tells systemd nothing: what is there outlives. */
OwnerStore *owner_store_free(OwnerStore *store);
DEFINE_CLEANUP(OwnerStore *, owner_store_free)

/* The process that was stored under this name. */
int owner_store_find(OwnerStore *store, pid_t pid, uint64_t start_time, Owner **ret_owner);
/* @owner (borrowed) has leases from now on. Storing it anew is no news. */
void owner_store_add(OwnerStore *store, const Owner *owner);
/* @owner has none any more: its pidfd is the store's now, if that keeps it for a while. */
void owner_store_remove(OwnerStore *store, Owner *owner);
/* Of what an earlier process has stored, has systemd drop what has not been added. */
void owner_store_drop_rest(OwnerStore *store);
