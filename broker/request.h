/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * From the parameters of Acquire and Query to a complete request: ranges are checked here and nowhere else
 * (types were, against the IDL), defaults are filled in, the owner is opened and the VM's name derived.
 */

#include <json-c/json.h>
#include <stdbool.h>

#include "host/owner.h"
#include "policy/decide.h"
#include "util/cleanup.h"
#include "varlink/server/server.h"

typedef struct Manager Manager;
typedef struct LeaseOwner LeaseOwner;

#define REQUEST_VCPUS_MAX         4096
#define REQUEST_VM_NAME_MAX       255U
#define REQUEST_INSTANCE_NAME_MAX 255U
#define REQUEST_REASON_MAX        255U
#define REQUEST_ID_LENGTH_MAX     64U

enum {
        _REQUEST_E_SUCCESS,
        REQUEST_E_INVALID_PARAMETER, /* fault->parameter */
        REQUEST_E_PERMISSION_DENIED,
        REQUEST_E_NO_PROCESS, /* fault->pid */
};

typedef struct RequestFault {
        const char *parameter; /* a field's bare name */
        pid_t pid;
} RequestFault;

/* The strings that policy points at are owned here. */
typedef struct LeaseRequest {
        PolicyRequest policy;
        char *vm;
        char *instance;
        char *id;          /* requestId, or NULL */
        Owner *fresh;      /* the owner, if it has no lease yet */
        LeaseOwner *known; /* or else */
} LeaseRequest;

#define LEASE_REQUEST_NULL ((LeaseRequest){0})
void lease_request_deinit(LeaseRequest *request);
/* True if @a and @b ask for the same. The owner and the request id are not compared. */
bool lease_request_equal(const LeaseRequest *a, const LeaseRequest *b);
const Owner *lease_request_get_owner(const LeaseRequest *request);

int request_parse(Manager *manager, const VarlinkPeer *peer, struct json_object *object,
                  LeaseRequest *ret_request, RequestFault *ret_fault);

/* 1 to 255 bytes, no control characters (C0, DEL, C1). */
bool request_vm_name_is_valid(const char *name);
/* 1 to REQUEST_ID_LENGTH_MAX bytes, no control characters. */
bool request_id_is_valid(const char *id);
/* As of a process, "0::PATH" of /proc/PID/cgroup; no control characters. */
bool request_cgroup_is_valid(const char *path);
/* 1 to REQUEST_REASON_MAX bytes, no control characters: it is shown to people. */
bool request_reason_is_valid(const char *reason);

/*
 * Reads optional members of checked parameters: false if absent or null. The pieces that methods share.
 */
bool request_get_string(struct json_object *object, const char *name, const char **ret_value);
bool request_get_int(struct json_object *object, const char *name, int64_t *ret_value);
bool request_get_bool(struct json_object *object, const char *name);
/* A cpulist: true in *@ret_there if there is one. REQUEST_E_INVALID_PARAMETER if it is not one, or empty. */
int request_get_cpus(struct json_object *object, const char *name, bool *ret_there, CpuSet *ret_cpus);
