/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One way to a sum, for whoever writes one and for whoever checks it. */

#include "broker/record-sum.h"

#include <inttypes.h>
#include <stdio.h>

#include "util/hash.h"

int record_sum_finish(JsonWriter *w, char ret_sum[static RECORD_SUM_LENGTH + 1]) {
        const Buffer *buffer = w->buffer;
        int r;

        json_write_object_end(w);
        r = json_writer_finish(w);
        if (r < 0)
                return r;

        (void)snprintf(ret_sum, RECORD_SUM_LENGTH + 1, "%016" PRIx64,
                       hash_add(HASH_INIT, buffer->data + buffer->start, buffer_pending(buffer)));
        return 0;
}
