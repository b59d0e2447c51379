/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Assignments made with 'speadm assign' as text: those of one origin.
 *
 *   {"version":1,"bootId":"...","id":"...","unassigned":{"id":"...","cpus":"8"},"assignments":[
 *    {"cpus":"0-3","owner":"guest","vm":null,"origin":"runtime","untilUSec":null}],"sum":"..."}
 *
 * "id" is that of runtime ones alone, another one whenever they are written. "unassigned" is that of
 * persistent ones alone, if it is there: of the runtime text with this id, these CPUs do not count any more.
 * So one text takes CPUs from two, and once the other is written anew, nothing is left to be done.
 *
 * A text whose sum (broker/record-sum.h) is another is not a record: that of the object
 * {"bootId","id","unassigned","assignments"}, of which the middle two may be missing, with the five members
 * of each assignment in this order. Without a sum, and without an id, it is of a version that had none.
 *
 * Members that this build does not know, of the whole or of an element, are no part of the sum, and are
 * written back as long as what they stand in is the same, so that a newer build finds its own again after a
 * downgrade; whatever an older build must understand raises the version.
 */

#include <json-c/json.h>
#include <stddef.h>

#include "policy/assignment.h"
#include "util/cleanup.h"
#include "util/random.h"
#include "varlink/buffer.h"

/* Every CPU in an assignment of its own, each for a VM with the longest name, escaped. */
#define ASSIGNMENT_RECORD_MAX (8U << 20)

enum {
        _ASSIGNMENT_RECORD_E_SUCCESS,
        ASSIGNMENT_RECORD_E_BAD, /* not one of ours: torn, damaged, of another version, impossible values */
};

/* What a text says beside its assignments. */
typedef struct AssignmentHead {
        char id[RANDOM_ID_SIZE]; /* empty: none */
        char unassigned_id[RANDOM_ID_SIZE];
        CpuSet unassigned; /* empty: none */
} AssignmentHead;

/* What a text says. That of runtime ones of another boot says nothing. */
typedef struct AssignmentRecord {
        AssignmentHead head;
        AssignmentTable table;
        struct json_object *root;               /* with what it holds for another build, or NULL */
        struct json_object *by_cpu[CPUSET_MAX]; /* its elements by their lowest CPU */
} AssignmentRecord;

AssignmentRecord *assignment_record_free(AssignmentRecord *record);
DEFINE_CLEANUP(AssignmentRecord *, assignment_record_free)

/*
 * The record that @n bytes are, of @origin, in the boot @boot_id; else ASSIGNMENT_RECORD_E_BAD, with
 * *@ret_reason a phrase for the journal.
 */
int assignment_record_parse(const char *data, size_t n, AssignmentOrigin origin, const char *boot_id,
                            AssignmentRecord **ret_record, const char **ret_reason);

/*
 * Appends the text of @head and of @table's entries of @origin, with a newline. It keeps what @before (the
 * text whose place it takes, or NULL) has for another build. 0, -ENOMEM, or -ENOBUFS if that is too much.
 */
int assignment_record_write(const AssignmentHead *head, const AssignmentTable *table, AssignmentOrigin origin,
                            const char *boot_id, const AssignmentRecord *before, Buffer *buffer);
