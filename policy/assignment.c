/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Assignments as CPU sets. Two invariants make every question one pass over the entries: those of one origin
 * are disjoint, and all are sorted by rising origin. Read backwards, the first entry that has a CPU decides
 * for it, and a CPU that no entry has belongs to the default owner.
 */

#include "policy/assignment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

static void assignment_free(Assignment *assignment) {
        free(assignment->vm);
        free(assignment);
}

static int assignment_new(const CpuSet *cpus, AssignmentOwner owner, const char *vm, AssignmentOrigin origin,
                          uint64_t until_usec, Assignment **ret_assignment) {
        Assignment *assignment;

        assignment = calloc(1, sizeof(*assignment));
        if (!assignment)
                return -ENOMEM;

        if (vm) {
                assignment->vm = strdup(vm);
                if (!assignment->vm) {
                        free(assignment);
                        return -ENOMEM;
                }
        }

        assignment->cpus = *cpus;
        assignment->owner = owner;
        assignment->origin = origin;
        assignment->until_usec = until_usec;

        *ret_assignment = assignment;
        return 0;
}

static bool same_vm(const char *a, const char *b) {
        return a && b ? strcmp(a, b) == 0 : a == b;
}

void assignment_table_deinit(AssignmentTable *table) {
        for (size_t i = 0; i < table->n; i++)
                assignment_free(table->entries[i]);

        free(table->entries);
        *table = ASSIGNMENT_TABLE_NULL;
}

static int compare_entries(const void *a, const void *b) {
        const Assignment *x = *(Assignment *const *)a, *y = *(Assignment *const *)b;
        unsigned first_x, first_y;

        if (x->origin != y->origin)
                return x->origin < y->origin ? -1 : 1;

        first_x = cpuset_next(&x->cpus, 0);
        first_y = cpuset_next(&y->cpus, 0);
        return first_x < first_y ? -1 : first_x > first_y;
}

/* Drops the entries without CPUs, and puts the rest in order. */
static void table_tidy(AssignmentTable *table) {
        size_t n = 0;

        memset(table->spoken_of, 0, sizeof(table->spoken_of));
        for (size_t i = 0; i < table->n; i++) {
                Assignment *entry = table->entries[i];

                if (cpuset_is_empty(&entry->cpus)) {
                        assignment_free(entry);
                        continue;
                }
                cpuset_or(&table->spoken_of[entry->origin], &entry->cpus);
                table->entries[n++] = entry;
        }

        table->n = n;
        if (n > 0)
                qsort(table->entries, n, sizeof(Assignment *), compare_entries);
}

static void table_carve(AssignmentTable *table, const CpuSet *cpus, AssignmentOrigin origin) {
        if (!cpuset_intersects(&table->spoken_of[origin], cpus))
                return;

        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->origin == origin)
                        cpuset_subtract(&table->entries[i]->cpus, cpus);
        table_tidy(table);
}

/*
 * Puts @assignment, for which there is room, where it belongs in a tidy table. Thousands that are read in
 * their order are each put at the end, without sorting anything.
 */
static void table_insert(AssignmentTable *table, Assignment *assignment) {
        size_t i = table->n++;

        for (; i > 0 && compare_entries(&table->entries[i - 1], &assignment) > 0; i--)
                table->entries[i] = table->entries[i - 1];
        table->entries[i] = assignment;
        cpuset_or(&table->spoken_of[assignment->origin], &assignment->cpus);
}

/* The entry that says the same as @assignment about other CPUs. */
static Assignment *table_find_equal(const AssignmentTable *table, const Assignment *assignment) {
        for (size_t i = 0; i < table->n; i++) {
                Assignment *entry = table->entries[i];

                if (entry->origin == assignment->origin && entry->owner == assignment->owner &&
                    entry->until_usec == assignment->until_usec && same_vm(entry->vm, assignment->vm))
                        return entry;
        }

        return NULL;
}

int assignment_table_set(AssignmentTable *table, const CpuSet *cpus, AssignmentOwner owner, const char *vm,
                         AssignmentOrigin origin, uint64_t until_usec) {
        Assignment **entries, *assignment, *equal;
        int r;

        /* All that can fail comes first. */
        entries = reallocarray(table->entries, table->n + 1, sizeof(Assignment *));
        if (!entries)
                return -ENOMEM;
        table->entries = entries;

        r = assignment_new(cpus, owner, vm, origin, until_usec, &assignment);
        if (r)
                return r;

        table_carve(table, cpus, origin);
        equal = table_find_equal(table, assignment);
        if (!equal) {
                table_insert(table, assignment);
                return 0;
        }

        cpuset_or(&equal->cpus, cpus);
        assignment_free(assignment);
        table_tidy(table);
        return 0;
}

int assignment_table_clear(AssignmentTable *table, const CpuSet *cpus, AssignmentOrigin origin) {
        table_carve(table, cpus, origin);
        return 0;
}

bool assignment_table_expire(AssignmentTable *table, uint64_t now_usec) {
        bool expired = false;

        for (size_t i = 0; i < table->n; i++) {
                Assignment *entry = table->entries[i];

                if (entry->until_usec == UINT64_MAX || entry->until_usec > now_usec)
                        continue;

                entry->cpus = CPUSET_NULL;
                expired = true;
        }

        if (expired)
                table_tidy(table);
        return expired;
}

uint64_t assignment_table_next_expiry(const AssignmentTable *table) {
        uint64_t next = UINT64_MAX;

        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->until_usec < next)
                        next = table->entries[i]->until_usec;

        return next;
}

static bool entries_equal(const Assignment *a, const Assignment *b) {
        return a->origin == b->origin && a->owner == b->owner && a->until_usec == b->until_usec &&
               same_vm(a->vm, b->vm) && cpuset_equal(&a->cpus, &b->cpus);
}

void assignment_table_diff(const AssignmentTable *a, const AssignmentTable *b, CpuSet *ret_cpus) {
        CpuSet cpus = CPUSET_NULL;
        size_t i = 0, j = 0;

        /* Both are in the same order, so what one of them lacks is passed over there. */
        while (i < a->n || j < b->n) {
                int order = i == a->n ? 1 : j == b->n ? -1 : compare_entries(a->entries + i, b->entries + j);

                if (order == 0 && entries_equal(a->entries[i], b->entries[j])) {
                        i++;
                        j++;
                        continue;
                }
                if (order <= 0)
                        cpuset_or(&cpus, &a->entries[i++]->cpus);
                if (order >= 0)
                        cpuset_or(&cpus, &b->entries[j++]->cpus);
        }

        *ret_cpus = cpus;
}

const Assignment *assignment_table_lookup(const AssignmentTable *table, unsigned cpu) {
        for (size_t i = table->n; i > 0; i--)
                if (cpuset_has(&table->entries[i - 1]->cpus, cpu))
                        return table->entries[i - 1];

        return NULL;
}

/* What select_cpus() compares a deciding owner and VM to. */
typedef struct Criterion {
        AssignmentOwner owner;
        const char *vm;
} Criterion;

/* Sets *@ret_cpus to all CPUs, of whatever instance, whose deciding owner and VM match. */
static void select_cpus(const AssignmentTable *table,
                        bool (*matches)(const Criterion *criterion, AssignmentOwner owner, const char *vm),
                        const Criterion *criterion, CpuSet *ret_cpus) {
        CpuSet decided = CPUSET_NULL, selected = CPUSET_NULL;

        for (size_t i = table->n; i > 0; i--) {
                const Assignment *entry = table->entries[i - 1];

                if (matches(criterion, entry->owner, entry->vm)) {
                        CpuSet cpus = entry->cpus;

                        cpuset_subtract(&cpus, &decided);
                        cpuset_or(&selected, &cpus);
                }
                cpuset_or(&decided, &entry->cpus);
        }

        if (matches(criterion, table->default_owner, NULL)) {
                CpuSet rest;

                memset(&rest, 0xff, sizeof(rest));
                cpuset_subtract(&rest, &decided);
                cpuset_or(&selected, &rest);
        }

        *ret_cpus = selected;
}

static bool may_lease(const Criterion *criterion, AssignmentOwner owner, const char *vm) {
        if (owner != ASSIGNMENT_OWNER_GUEST && owner != ASSIGNMENT_OWNER_ANY)
                return false;

        return !vm || same_vm(criterion->vm, vm);
}

static bool is_own(const Criterion *criterion, AssignmentOwner owner, const char *vm) {
        return vm && may_lease(criterion, owner, vm);
}

static bool is_alike(const Criterion *criterion, AssignmentOwner owner, const char *vm) {
        return owner == criterion->owner && same_vm(vm, criterion->vm);
}

static bool is_of_owner(const Criterion *criterion, AssignmentOwner owner, _unused_ const char *vm) {
        return owner == criterion->owner;
}

/* A name that anybody can claim is no name. */
static Criterion criterion_of_vm(const char *vm, VmOrigin vm_origin) {
        return (Criterion){.vm = vm_origin == VM_ORIGIN_CALLER ? NULL : vm};
}

void assignment_table_allowed_cpus(const AssignmentTable *table, const char *vm, VmOrigin vm_origin,
                                   CpuSet *ret_cpus) {
        Criterion criterion = criterion_of_vm(vm, vm_origin);

        select_cpus(table, may_lease, &criterion, ret_cpus);
}

void assignment_table_restrict(const AssignmentTable *table, const char *vm, VmOrigin vm_origin,
                               CpuSet *cpus) {
        CpuSet allowed;

        assignment_table_allowed_cpus(table, vm, vm_origin, &allowed);
        cpuset_and(cpus, &allowed);
}

void assignment_table_own_cpus(const AssignmentTable *table, const char *vm, VmOrigin vm_origin,
                               CpuSet *ret_cpus) {
        Criterion criterion = criterion_of_vm(vm, vm_origin);

        select_cpus(table, is_own, &criterion, ret_cpus);
}

void assignment_table_owned_by(const AssignmentTable *table, AssignmentOwner owner, CpuSet *ret_cpus) {
        Criterion criterion = {.owner = owner};

        select_cpus(table, is_of_owner, &criterion, ret_cpus);
}

void assignment_table_alike(const AssignmentTable *table, unsigned cpu, AssignmentOwner *ret_owner,
                            const char **ret_vm, CpuSet *ret_cpus) {
        const Assignment *assignment = assignment_table_lookup(table, cpu);
        Criterion criterion = {
                .owner = assignment ? assignment->owner : table->default_owner,
                .vm = assignment ? assignment->vm : NULL,
        };

        select_cpus(table, is_alike, &criterion, ret_cpus);
        *ret_owner = criterion.owner;
        *ret_vm = criterion.vm;
}
