/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where the VCPU threads of leases' owners may run, compared to their leases: on any CPU that is not of its
 * SPU, a VCPU with SPE does not run at all, and the guest is the one to find out. Only told, nothing else
 * depends on it.
 */

typedef struct Manager Manager;
typedef struct LeaseOwner LeaseOwner;
typedef struct Misplaced Misplaced;

int misplaced_new(Manager *manager, Misplaced **ret_misplaced);
Misplaced *misplaced_free(Misplaced *misplaced);

/* An owner comes, whose threads are looked at from now on; and goes. */
void misplaced_owner_new(Manager *manager, LeaseOwner *owner);
void misplaced_owner_gone(Manager *manager, LeaseOwner *owner);

/* Now, as far as that takes no noticeable time, and the rest soon: what was misplaced before the broker was
 * started anew is still called so when the first client asks. */
void misplaced_look_at_all(Misplaced *misplaced);
