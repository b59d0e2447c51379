/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * CheckHost's answer: what others have found out about KVM and BPF, put together with what can be read of the
 * host. Anybody who may read may ask, as often as they like, so the broker bounds what it spends on answers.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/probe.h"
#include "host/readiness.h"

typedef struct Manager Manager;

typedef struct HostCheck {
        Check *checks;
        size_t n;
        uint64_t fresh_until; /* CLOCK_MONOTONIC: so long they are the answer to whoever asks */

        bool bpf_probed; /* once per run: what the running kernel can do does not change */
        BpfProbe bpf;
} HostCheck;

void host_check_deinit(HostCheck *check);

/* The next call looks at the host again. */
void host_check_forget(HostCheck *check);

/* *@ret_check is the manager's, until the next call. */
int host_check(Manager *manager, const HostCheck **ret_check);
