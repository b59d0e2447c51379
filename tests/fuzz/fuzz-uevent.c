/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A uevent: whatever the bytes are, it is none, or it says something known; and a message with one more key
 * of no meaning behind it says the same. */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/uevent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char more[] = "SEQNUM=1";

static void require(bool condition) {
        if (!condition)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        unsigned kinds = 77, again = 77;
        char *longer;
        int r;

        r = uevent_parse((const char *)data, size, &kinds);
        require(r == 0 || r == UEVENT_E_MALFORMED);
        if (r) {
                require(kinds == 77);
                return 0;
        }
        require((kinds & ~(unsigned)(UEVENT_TOPOLOGY | UEVENT_KVM | UEVENT_VM)) == 0);
        require(!(kinds & UEVENT_VM) || kinds == UEVENT_VM);

        longer = malloc(size + sizeof(more));
        require(longer);
        memcpy(longer, data, size);
        memcpy(longer + size, more, sizeof(more));
        r = uevent_parse(longer, size + sizeof(more), &again);
        require(size + sizeof(more) > UEVENT_SIZE_MAX ? r == UEVENT_E_MALFORMED : r == 0 && again == kinds);
        free(longer);
        return 0;
}
