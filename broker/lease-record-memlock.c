/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The base of the owner's limit, as text. It has a sum of its own: older builds, which do not know it, do not
 * write it under theirs. A limit is raised on its word, so nothing is believed but what would be written.
 */

#include <errno.h>
#include <string.h>

#include "broker/lease-memlock.h"
#include "broker/lease-record-text.h"
#include "broker/member.h"
#include "broker/record-sum.h"

/* More than this is not told from unlimited: no machine has it. */
static void write_limit(JsonWriter *w, const char *key, uint64_t bytes) {
        if (bytes <= INT64_MAX)
                json_write_int(w, key, (int64_t)bytes);
        else
                json_write_null(w, key);
}

static void write_base(JsonWriter *w, const MemlockBase *base) {
        json_write_object_begin(w, RECORD_MEMLOCK);
        write_limit(w, "soft", base->limit.soft);
        write_limit(w, "hard", base->limit.hard);
        json_write_bool(w, "changed", base->changed);
}

static int sum_base(const MemlockBase *base, const char *boot_id, const char *id,
                    char ret_sum[static RECORD_SUM_LENGTH + 1]) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_MAX);
        JsonWriter w;

        lease_record_begin_sum(&w, &buffer, boot_id, id);
        write_base(&w, base);
        json_write_object_end(&w);
        return record_sum_finish(&w, ret_sum);
}

int lease_record_write_memlock(JsonWriter *w, const Lease *lease, const char *boot_id) {
        const MemlockBase *base = lease_memlock_get_base(lease);
        char sum[RECORD_SUM_LENGTH + 1];
        int r;

        if (!base)
                return 0;
        r = sum_base(base, boot_id, lease->id, sum);
        if (r < 0)
                return r;

        write_base(w, base);
        json_write_string(w, RECORD_SUM, sum);
        json_write_object_end(w);
        return 0;
}

int lease_record_read_memlock(struct json_object *root, const char *boot_id, const char *id,
                              LeaseRecord *record) {
        static const char fault[] = "not what it can be";
        MemberReader outer = {.object = root}, reader;
        char sum[RECORD_SUM_LENGTH + 1];
        struct json_object *object;
        const char *said;
        MemlockBase base;
        int r;

        if (!json_object_object_get_ex(root, RECORD_MEMLOCK, &object))
                return 0;

        member_reader_enter(&outer, RECORD_MEMLOCK, fault, &reader);
        base.limit.soft = member_get_time(&reader, "soft", fault);
        base.limit.hard = member_get_time(&reader, "hard", fault);
        base.changed = member_get_bool(&reader, "changed", fault);
        said = member_get_string(&reader, RECORD_SUM, fault);
        member_require(&reader, base.limit.soft <= base.limit.hard, fault);
        record->bad_memlock = member_reader_finish(&reader, fault);
        if (record->bad_memlock)
                return 0;

        r = sum_base(&base, boot_id, id, sum);
        if (r < 0)
                return r;
        record->bad_memlock = strcmp(said, sum) != 0;
        record->has_memlock = !record->bad_memlock;
        record->memlock = base;
        return 0;
}
