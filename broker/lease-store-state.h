/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the store and its load share, and nobody else has to know. */

#include <stdbool.h>
#include <sys/queue.h>

#include "broker/lease-store.h"
#include "broker/manager.h"

#define LEASE_STORE_BAD_SUFFIX ".bad"

/* One file that is there, as far as we know. */
typedef struct LeaseFile {
        char id[LEASE_ID_LENGTH + 1];
        bool doomed;
        TAILQ_ENTRY(LeaseFile) doomed_link;
} LeaseFile;

struct LeaseStore {
        int fd;
        char boot_id[BOOT_ID_LENGTH + 1];
        void *by_id;                    /* tsearch() */
        TAILQ_HEAD(, LeaseFile) doomed; /* to be removed, as soon as they can be */
        unsigned n_bad;
};

/* The file of @id is there. -ENOMEM. */
int lease_store_know(LeaseStore *store, const char *id);
/* Tells a sentence, or without memory for it @otherwise. */
void lease_store_tell(LeaseStoreProblemFn problem, void *userdata, const char *otherwise, const char *format,
                      ...) __attribute__((__format__(printf, 4, 5)));
