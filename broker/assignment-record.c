/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Assignments as text. What is read is believed only if it is what we would have written: every member, in
 * its range, no CPU twice, and under the sum of all that: a digit more or less in a list of CPUs makes
 * another list that is as good. What is wrong first is the reason that is told.
 *
 * Members that this build does not know mean nothing to it, and are kept for the one that wrote them: whoever
 * writes the text anew takes them over from the one before. An element's go when it becomes another one.
 */

#include "broker/assignment-record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/member.h"
#include "broker/record-sum.h"
#include "broker/request.h"
#include "varlink/json-read.h"
#include "varlink/json-write.h"

#define FORMAT_VERSION 1

#define VERSION     "version"
#define BOOT_ID     "bootId"
#define ID          "id"
#define UNASSIGNED  "unassigned"
#define ASSIGNMENTS "assignments"
#define SUM         "sum"

static const char *const root_members[] = {VERSION, BOOT_ID, ID, UNASSIGNED, ASSIGNMENTS, SUM, NULL};
static const char *const element_members[] = {"cpus", "owner", "vm", "origin", "untilUSec", NULL};

AssignmentRecord *assignment_record_free(AssignmentRecord *record) {
        if (record) {
                assignment_table_deinit(&record->table);
                json_object_put(record->root);
        }
        free(record);
        return NULL;
}

/* What one element says; @vm is the element's. */
typedef struct Element {
        CpuSet cpus;
        AssignmentOwner owner;
        const char *vm;
        uint64_t until_usec;
} Element;

/* NULL, or the reason why @object is no element of @origin's text. */
static const char *read_element(struct json_object *object, AssignmentOrigin origin, Element *ret_element) {
        const char *owner, *said_origin;
        MemberReader reader;
        Element element;

        member_reader_init(&reader, object, "an assignment is not an object");
        member_get_cpus(&reader, "cpus", "cpus is not a list of CPUs", &element.cpus);
        owner = member_get_string(&reader, "owner", "owner is not an owner");
        element.owner = owner ? assignment_owner_from_string(owner) : _ASSIGNMENT_OWNER_INVALID;
        member_require(&reader, element.owner >= 0, "owner is not an owner");
        element.vm = member_get_optional_string(&reader, "vm", "vm is not a VM's name");
        member_require(&reader, !element.vm || request_vm_name_is_valid(element.vm), "vm is not a VM's name");
        member_require(&reader,
                       !element.vm || element.owner == ASSIGNMENT_OWNER_GUEST ||
                               element.owner == ASSIGNMENT_OWNER_ANY,
                       "a VM is named for an owner that is not guest or any");
        said_origin = member_get_string(&reader, "origin", "origin is another file's");
        member_require(&reader, said_origin && assignment_origin_from_string(said_origin) == origin,
                       "origin is another file's");
        element.until_usec = member_get_time(&reader, "untilUSec", "untilUSec is not a time");

        *ret_element = element;
        return reader.fault;
}

static bool is_known(const char *const *names, const char *name) {
        for (; *names; names++)
                if (strcmp(*names, name) == 0)
                        return true;

        return false;
}

/* Writes the members of @object that are not among @known. */
static void write_others(JsonWriter *w, struct json_object *object, const char *const *known) {
        json_object_object_foreach(object, name, value) {
                if (!is_known(known, name))
                        json_write_member(w, name, value);
        }
}

/* The element that @a was; NULL: it was not there, or was another one. */
static struct json_object *find_before(const AssignmentRecord *before, const Assignment *a) {
        struct json_object *object = before->by_cpu[cpuset_next(&a->cpus, 0)];
        Element element;

        if (!object || read_element(object, a->origin, &element) || !cpuset_equal(&element.cpus, &a->cpus) ||
            element.owner != a->owner || element.until_usec != a->until_usec || !element.vm != !a->vm ||
            (a->vm && strcmp(element.vm, a->vm) != 0))
                return NULL;

        return object;
}

static void write_assignment(JsonWriter *w, const Assignment *a, struct json_object *before) {
        json_write_object_begin(w, NULL);
        json_write_cpuset(w, "cpus", &a->cpus);
        json_write_string(w, "owner", assignment_owner_to_string(a->owner));
        json_write_string(w, "vm", a->vm);
        json_write_string(w, "origin", assignment_origin_to_string(a->origin));
        if (a->until_usec > INT64_MAX)
                json_write_null(w, "untilUSec");
        else
                json_write_int(w, "untilUSec", (int64_t)a->until_usec);
        if (before)
                write_others(w, before, element_members);
        json_write_object_end(w);
}

static void write_head(JsonWriter *w, const AssignmentHead *head, const char *boot_id) {
        json_write_string(w, BOOT_ID, boot_id);
        if (*head->id)
                json_write_string(w, ID, head->id);
        if (!cpuset_is_empty(&head->unassigned)) {
                json_write_object_begin(w, UNASSIGNED);
                json_write_string(w, ID, head->unassigned_id);
                json_write_cpuset(w, "cpus", &head->unassigned);
                json_write_object_end(w);
        }
}

/* @before: as for assignment_record_write(). */
static void write_list(JsonWriter *w, const AssignmentTable *table, AssignmentOrigin origin,
                       const AssignmentRecord *before) {
        json_write_array_begin(w, ASSIGNMENTS);
        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i]->origin == origin)
                        write_assignment(w, table->entries[i],
                                         before ? find_before(before, table->entries[i]) : NULL);
        json_write_array_end(w);
}

static int sum_facts(const AssignmentHead *head, const AssignmentTable *table, AssignmentOrigin origin,
                     const char *boot_id, char ret_sum[static RECORD_SUM_LENGTH + 1]) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(ASSIGNMENT_RECORD_MAX);
        JsonWriter w;

        json_writer_init(&w, &buffer);
        json_write_object_begin(&w, NULL);
        write_head(&w, head, boot_id);
        write_list(&w, table, origin, NULL);
        return record_sum_finish(&w, ret_sum);
}

int assignment_record_write(const AssignmentHead *head, const AssignmentTable *table, AssignmentOrigin origin,
                            const char *boot_id, const AssignmentRecord *before, Buffer *buffer) {
        char sum[RECORD_SUM_LENGTH + 1];
        JsonWriter w;
        int r;

        r = sum_facts(head, table, origin, boot_id, sum);
        if (r < 0)
                return r;

        json_writer_init(&w, buffer);
        json_write_object_begin(&w, NULL);
        json_write_int(&w, VERSION, FORMAT_VERSION);
        write_head(&w, head, boot_id);
        write_list(&w, table, origin, before);
        json_write_string(&w, SUM, sum);
        if (before && before->root)
                write_others(&w, before->root, root_members);
        json_write_object_end(&w);
        r = json_writer_finish(&w);
        return r < 0 ? r : buffer_append(buffer, "\n", 1);
}

/* What sum_facts() writes, of a text, whatever that says. */
static void copy_facts(JsonWriter *w, struct json_object *root, struct json_object *list) {
        static const char *const head[] = {BOOT_ID, ID, UNASSIGNED};
        struct json_object *value;

        for (size_t i = 0; i < ELEMENTS_OF(head); i++)
                if (json_object_object_get_ex(root, head[i], &value))
                        json_write_json(w, head[i], value);
        json_write_array_begin(w, ASSIGNMENTS);
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *element = json_object_array_get_idx(list, i);

                json_write_object_begin(w, NULL);
                for (const char *const *name = element_members; *name; name++)
                        json_write_json(w, *name, json_object_object_get(element, *name));
                json_write_object_end(w);
        }
        json_write_array_end(w);
}

/* Only what says the same as when it was written is looked at any further. */
static int check_sum(MemberReader *reader, struct json_object *list) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(ASSIGNMENT_RECORD_MAX);
        char sum[RECORD_SUM_LENGTH + 1];
        const char *said;
        JsonWriter w;
        int r;

        if (reader->fault || !json_object_object_get_ex(reader->object, SUM, NULL))
                return 0;
        said = member_get_string(reader, SUM, "sum is not a sum");
        if (reader->fault)
                return 0;

        json_writer_init(&w, &buffer);
        json_write_object_begin(&w, NULL);
        copy_facts(&w, reader->object, list);
        r = record_sum_finish(&w, sum);
        if (r == -ENOMEM)
                return r;
        member_require(reader, r == 0 && strcmp(said, sum) == 0, "damaged: its sum is another");
        return 0;
}

static void get_id(MemberReader *reader, const char *fault, char id[static RANDOM_ID_SIZE]) {
        const char *said = member_get_string(reader, ID, fault);

        if (said && random_id_is_valid(said))
                memcpy(id, said, RANDOM_ID_SIZE);
        else
                member_require(reader, false, fault);
}

/* What may be there: each in one of the two texts. */
static void read_head(MemberReader *reader, AssignmentOrigin origin, AssignmentHead *head) {
        bool runtime = origin == ASSIGNMENT_ORIGIN_RUNTIME;
        MemberReader inner;

        if (reader->fault)
                return;
        if (json_object_object_get_ex(reader->object, ID, NULL)) {
                member_require(reader, runtime, "id is another file's");
                get_id(reader, "id is not an id", head->id);
        }
        if (json_object_object_get_ex(reader->object, UNASSIGNED, NULL)) {
                member_require(reader, !runtime, "unassigned is another file's");
                member_reader_enter(reader, UNASSIGNED, "unassigned is not an object", &inner);
                get_id(&inner, "unassigned.id is not an id", head->unassigned_id);
                member_get_cpus(&inner, "cpus", "unassigned.cpus is not a list of CPUs", &head->unassigned);
                reader->fault = member_reader_finish(&inner, "unassigned has members that are unknown");
        }
}

/* Adds one element. @taken are the CPUs of those before it. */
static int parse_element(MemberReader *outer, struct json_object *object, AssignmentOrigin origin,
                         CpuSet *taken, AssignmentRecord *record) {
        const char *fault;
        Element element;

        fault = read_element(object, origin, &element);
        if (!fault && cpuset_intersects(&element.cpus, taken))
                fault = "a CPU is assigned twice";
        if (fault) {
                outer->fault = fault;
                return 0;
        }

        cpuset_or(taken, &element.cpus);
        record->by_cpu[cpuset_next(&element.cpus, 0)] = object;
        return assignment_table_set(&record->table, &element.cpus, element.owner, element.vm, origin,
                                    element.until_usec);
}

static int read_root(struct json_object *root, AssignmentOrigin origin, const char *boot_id,
                     AssignmentRecord *record, const char **ret_fault) {
        CpuSet taken = CPUSET_NULL;
        AssignmentHead head = {0};
        struct json_object *list;
        const char *said_boot_id;
        MemberReader reader;
        int r;

        member_reader_init(&reader, root, "not an object");
        (void)member_get_int(&reader, VERSION, FORMAT_VERSION, FORMAT_VERSION, "of another version");
        said_boot_id = member_get_string(&reader, BOOT_ID, "bootId is not a boot's id");
        list = member_get_array(&reader, ASSIGNMENTS, "assignments is not a list");
        r = check_sum(&reader, list);
        if (r < 0)
                return r;
        read_head(&reader, origin, &head);

        if (!reader.fault && (origin != ASSIGNMENT_ORIGIN_RUNTIME || strcmp(said_boot_id, boot_id) == 0)) {
                record->root = json_object_get(root);
                record->head = head;
                for (size_t i = 0; !reader.fault && i < json_object_array_length(list); i++) {
                        r = parse_element(&reader, json_object_array_get_idx(list, i), origin, &taken,
                                          record);
                        if (r < 0)
                                return r;
                }
        }

        *ret_fault = reader.fault;
        return 0;
}

int assignment_record_parse(const char *data, size_t n, AssignmentOrigin origin, const char *boot_id,
                            AssignmentRecord **ret_record, const char **ret_reason) {
        _cleanup_(assignment_record_freep) AssignmentRecord *record = calloc(1, sizeof(*record));
        _cleanup_(json_object_putp) struct json_object *root = NULL;
        const char *fault;
        int r;

        if (!record)
                return -ENOMEM;
        record->table = ASSIGNMENT_TABLE_NULL;

        r = json_read(data, n, &root, NULL);
        if (r > 0) {
                *ret_reason = json_read_strerror(r);
                return ASSIGNMENT_RECORD_E_BAD;
        }
        if (r < 0)
                return r;
        r = read_root(root, origin, boot_id, record, &fault);
        if (r < 0)
                return r;
        if (fault) {
                *ret_reason = fault;
                return ASSIGNMENT_RECORD_E_BAD;
        }

        *ret_record = steal_ptr(record);
        return 0;
}
