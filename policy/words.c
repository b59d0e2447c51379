/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The interface's words. One table per enum, indexed by its values; reading goes through the same table, so
 * that a word can never be said one way and understood another.
 */

#include "policy/words.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "util/cleanup.h"

static const char *const lease_modes[] = {
        [LEASE_MODE_EXCLUSIVE] = "exclusive",
        [LEASE_MODE_GUEST] = "guest",
        [LEASE_MODE_SHARED] = "shared",
};
static_assert(ELEMENTS_OF(lease_modes) == _LEASE_MODE_MAX, "a mode without a word");

static const char *const lease_states[] = {
        [LEASE_STATE_QUEUED] = "queued",     [LEASE_STATE_GRANTED] = "granted",
        [LEASE_STATE_REVOKING] = "revoking", [LEASE_STATE_REVOKED] = "revoked",
        [LEASE_STATE_ENDED] = "ended",
};
static_assert(ELEMENTS_OF(lease_states) == _LEASE_STATE_MAX, "a lease's state without a word");

static const char *const assignment_owners[] = {
        [ASSIGNMENT_OWNER_HOST] = "host",
        [ASSIGNMENT_OWNER_GUEST] = "guest",
        [ASSIGNMENT_OWNER_ANY] = "any",
        [ASSIGNMENT_OWNER_NONE] = "none",
};
static_assert(ELEMENTS_OF(assignment_owners) == _ASSIGNMENT_OWNER_MAX, "an owner without a word");

static const char *const assignment_origins[] = {
        [ASSIGNMENT_ORIGIN_CONFIG] = "config",
        [ASSIGNMENT_ORIGIN_PERSISTENT] = "persistent",
        [ASSIGNMENT_ORIGIN_RUNTIME] = "runtime",
};
static_assert(ELEMENTS_OF(assignment_origins) == _ASSIGNMENT_ORIGIN_MAX,
              "an assignment's origin without a word");

static const char *const vm_origins[] = {
        [VM_ORIGIN_ADMINISTRATOR] = "administrator",
        [VM_ORIGIN_MACHINE] = "machine",
        [VM_ORIGIN_UNIT] = "unit",
        [VM_ORIGIN_CALLER] = "caller",
};
static_assert(ELEMENTS_OF(vm_origins) == _VM_ORIGIN_MAX, "a name's origin without a word");

static const char *const session_kinds[] = {
        [SESSION_KIND_CPU] = "cpu",
        [SESSION_KIND_TASK] = "task",
        [SESSION_KIND_TASKCPU] = "taskcpu",
};
static_assert(ELEMENTS_OF(session_kinds) == _SESSION_KIND_MAX, "a session's kind without a word");

static const char *const arbitration_levels[] = {
        [ARBITRATION_LEVEL_NONE] = "none",
        [ARBITRATION_LEVEL_OBSERVE] = "observe",
        [ARBITRATION_LEVEL_RESERVE] = "reserve",
        [ARBITRATION_LEVEL_ENFORCE] = "enforce",
};
static_assert(ELEMENTS_OF(arbitration_levels) == _ARBITRATION_LEVEL_MAX, "a level without a word");

static const char *const gate_levels[] = {
        [GATE_LEVEL_OFF] = "off",
        [GATE_LEVEL_LOG] = "log",
        [GATE_LEVEL_ENFORCE] = "enforce",
};
static_assert(ELEMENTS_OF(gate_levels) == _GATE_LEVEL_MAX, "a level of the gate without a word");

static const char *const instance_states[] = {
        [INSTANCE_STATE_READY] = "ready",
        [INSTANCE_STATE_PARTIAL] = "partial",
        [INSTANCE_STATE_GONE] = "gone",
};
static_assert(ELEMENTS_OF(instance_states) == _INSTANCE_STATE_MAX, "an instance's state without a word");

static const char *const guest_supports[] = {
        [GUEST_SUPPORT_YES] = "yes",
        [GUEST_SUPPORT_NO] = "no",
        [GUEST_SUPPORT_UNKNOWN] = "unknown",
};
static_assert(ELEMENTS_OF(guest_supports) == _GUEST_SUPPORT_MAX, "guest support without a word");

/* The index of @text in @words, or -EINVAL: every _X_INVALID. */
static int find_word(const char *const *words, size_t n, const char *text) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(words[i], text) == 0)
                        return (int)i;

        return -EINVAL;
}

const char *lease_mode_to_string(LeaseMode mode) {
        return lease_modes[mode];
}

LeaseMode lease_mode_from_string(const char *text) {
        return (LeaseMode)find_word(lease_modes, ELEMENTS_OF(lease_modes), text);
}

const char *lease_state_to_string(LeaseState state) {
        return lease_states[state];
}

LeaseState lease_state_from_string(const char *text) {
        return (LeaseState)find_word(lease_states, ELEMENTS_OF(lease_states), text);
}

const char *assignment_owner_to_string(AssignmentOwner owner) {
        return assignment_owners[owner];
}

AssignmentOwner assignment_owner_from_string(const char *text) {
        return (AssignmentOwner)find_word(assignment_owners, ELEMENTS_OF(assignment_owners), text);
}

const char *assignment_origin_to_string(AssignmentOrigin origin) {
        return assignment_origins[origin];
}

AssignmentOrigin assignment_origin_from_string(const char *text) {
        return (AssignmentOrigin)find_word(assignment_origins, ELEMENTS_OF(assignment_origins), text);
}

const char *vm_origin_to_string(VmOrigin origin) {
        return vm_origins[origin];
}

VmOrigin vm_origin_from_string(const char *text) {
        return (VmOrigin)find_word(vm_origins, ELEMENTS_OF(vm_origins), text);
}

const char *instance_state_to_string(InstanceState state) {
        return instance_states[state];
}

const char *guest_support_to_string(GuestSupport support) {
        return guest_supports[support];
}

const char *session_kind_to_string(SessionKind kind) {
        return session_kinds[kind];
}

const char *arbitration_level_to_string(ArbitrationLevel level) {
        return arbitration_levels[level];
}

ArbitrationLevel arbitration_level_from_string(const char *text) {
        return (ArbitrationLevel)find_word(arbitration_levels, ELEMENTS_OF(arbitration_levels), text);
}

const char *gate_level_to_string(GateLevel level) {
        return gate_levels[level];
}

GateLevel gate_level_from_string(const char *text) {
        return (GateLevel)find_word(gate_levels, ELEMENTS_OF(gate_levels), text);
}
