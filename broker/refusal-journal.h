/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the journal gets of refused requests for leases: an event with a MESSAGE_ID and fields to search by,
 * listed in spe-broker(8). Its SPE_BROKER_REFUSAL= is the id that ListRefusals has.
 */

#include <stdint.h>

#include "util/rate-limit.h"

typedef struct Refusal Refusal;

/* Of one user, so many VMs with so many errors have a limit of their own: those that were refused last. */
#define REFUSAL_RATES_MAX 32U

typedef struct RefusalRate {
        uint64_t like; /* a hash of VM and error */
        RateLimit limit;
} RefusalRate;

/* What one user has put into the journal lately. All zero: nothing. */
typedef struct RefusalRates {
        RateLimit user;
        RefusalRate like[REFUSAL_RATES_MAX]; /* the last one used first */
} RefusalRates;

/* @rates: of @refusal's user; @all: of everybody. @now_usec: CLOCK_MONOTONIC. */
void refusal_journal(const Refusal *refusal, uint64_t now_usec, RefusalRates *rates, RateLimit *all);
