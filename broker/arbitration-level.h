/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which level there is: what the configuration wants, held against what the kernel and the PMUs can do. Never
 * a silent fallback: whatever is not the best has its reason, in words of what is missing and how to add it.
 */

#include <stdbool.h>

#include "bpf/arbiter.h"
#include "broker/config.h"
#include "policy/words.h"

typedef struct Manager Manager;

#define ARBITRATION_REASON_MAX 1024U

typedef struct ArbitrationChoice {
        ArbitrationLevel level;
        bool unprotected;                    /* a level was named that is not to be had */
        char reason[ARBITRATION_REASON_MAX]; /* why no higher one; "" at enforce */
} ArbitrationChoice;

/* What is wanted here: on another host's tree, nothing unless a level is named. */
ArbitrationLevel arbitration_wanted(const Manager *manager);
/* The best hook that a level needs; NONE: no eyes at all. */
ArbiterHook arbitration_wanted_hook(ArbitrationLevel wanted);

/*
 * What can be had of @wanted with @arbiter (NULL: there is none, for @failure, or because none is wanted).
 * Asks the PMUs of instances that are ready, if level reserve comes into question.
 */
void arbitration_choose(const Manager *manager, ArbitrationLevel wanted, const Arbiter *arbiter,
                        const char *failure, ArbitrationChoice *ret_choice);
