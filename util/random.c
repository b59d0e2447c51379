/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* getrandom(), which may be interrupted and may give less than was asked for. */

#include "util/random.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int random_fill(void *bytes, size_t n) {
        uint8_t *next = bytes;

        while (n > 0) {
                ssize_t got;

                got = getrandom(next, n, 0);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                next += got;
                n -= (size_t)got;
        }

        return 0;
}

int random_id(char ret_id[static RANDOM_ID_SIZE]) {
        uint8_t bytes[(RANDOM_ID_SIZE - 1) / 2];
        int r;

        r = random_fill(bytes, sizeof(bytes));
        if (r < 0)
                return r;

        for (size_t i = 0; i < sizeof(bytes); i++)
                (void)snprintf(ret_id + 2 * i, 3, "%02x", bytes[i]);
        return 0;
}

bool random_id_is_valid(const char *id) {
        return strlen(id) == RANDOM_ID_SIZE - 1 && strspn(id, "0123456789abcdef") == RANDOM_ID_SIZE - 1;
}
