/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The probe of a build without BPF (SPE_BPF=OFF): knows nothing, and says why.
 */

#include <stdio.h>

#include "bpf/probe.h"

void bpf_probe(BpfProbe *ret_probe) {
        *ret_probe = (BpfProbe){.result = BPF_PROBE_UNKNOWN};
        (void)snprintf(ret_probe->reason, sizeof(ret_probe->reason),
                       "This spe-broker was built without BPF, so it cannot be tried.");
}

void bpf_silence(void) {
}
