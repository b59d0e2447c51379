/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Why a lease is as it is, in a sentence for its owner and for the operator.
 */

typedef struct Lease Lease;

/*
 * All that is to be said of @lease: its reason (lease.h), and if it is being revoked what comes next and what
 * its VM may still do; what it is contended by. The caller frees it; NULL: nothing, or no memory to say it.
 */
char *lease_explain(const Lease *lease);
