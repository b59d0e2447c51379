/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One encoder per object of the interface, for replies and events alike, straight into the connection's
 * buffer.
 * @key is the member's name, NULL for an array's element. Nullable members are always written, as null.
 */

#include "broker/events.h"
#include "broker/lease.h"
#include "broker/refusal.h"
#include "host/readiness.h"
#include "policy/decide.h"
#include "varlink/json-write.h"

/* Errors carry the name of the interface whose method they answer. */
#define BROKER_ERROR_PREFIX "io.spebroker.Broker."
#define ADMIN_ERROR_PREFIX  "io.spebroker.Admin."

/* For members that not every object has. */
void encode_int_or_null(JsonWriter *w, const char *key, bool there, uint64_t value);
void encode_lease(JsonWriter *w, const char *key, const Lease *lease);
void encode_instance(JsonWriter *w, const char *key, const Manager *manager, const Instance *instance);
/* "instances": all. */
void encode_instances(JsonWriter *w, const Manager *manager);
void encode_session(JsonWriter *w, const char *key, const Session *session);
/* "draining": those that assignments do not allow on @cpus. */
void encode_draining(JsonWriter *w, const Manager *manager, const CpuSet *cpus);
void encode_offer(JsonWriter *w, const char *key, const Offer *offer);
void encode_refusal(JsonWriter *w, const char *key, const Refusal *refusal);
void encode_host(JsonWriter *w, const char *key, const Manager *manager);
/* "checks". */
void encode_checks(JsonWriter *w, const Check *checks, size_t n);

/* A whole reply of Acquire, Follow: lease and change. */
void encode_lease_reply(VarlinkCall *call, const Lease *lease, LeaseChange change, bool continues);
/* The error NoSuchLease. */
void encode_no_such_lease(VarlinkCall *call, const char *id);
/* LimitExceeded, of a limit that has nothing left for one more. */
void encode_none_left(VarlinkCall *call, const char *limit);
/* The error that @refusal is. */
void encode_refusal_error(VarlinkCall *call, const Refusal *refusal);

/* A later reply of Assign with 'more': the leases that are still in the way on @cpus. */
void encode_assign_reply(VarlinkCall *call, const Manager *manager, const CpuSet *cpus, bool continues);
/* The first: also those that the last run of settle() took CPUs from. */
void encode_assign_first_reply(VarlinkCall *call, const Manager *manager, const CpuSet *cpus, bool continues);
