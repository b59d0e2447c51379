/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The inside of host/readiness.c: the list while it is being made, and the checks themselves. Each says one
 * sentence, and, where something can be done, one line of advice; none looks at what a later one says.
 */

#include "host/readiness-facts.h"
#include "host/readiness.h"

typedef enum CheckId {
        CHECK_CPU,
        CHECK_FIRMWARE,
        CHECK_KPTI,
        CHECK_DRIVER_BUILT,
        CHECK_DRIVER_LOADED,
        CHECK_DRIVER_PROBE,
        CHECK_INSTANCES,
        CHECK_MEM_SAMPLING,
        CHECK_PERF_PARANOID,
        CHECK_KVM,
        CHECK_KVM_MODE,
        CHECK_GUEST,
        CHECK_MEMLOCK,
        CHECK_BTF,
        CHECK_BPF_LSM,
        CHECK_TRAMPOLINES,
        CHECK_LEVEL,
        _CHECK_N,
} CheckId;

#define CAUSE(id) (1U << (id))

/* What a probe of the driver depends on. */
#define CAUSES_OF_PROBE                                                                             \
        (CAUSE(CHECK_CPU) | CAUSE(CHECK_FIRMWARE) | CAUSE(CHECK_KPTI) | CAUSE(CHECK_DRIVER_BUILT) | \
         CAUSE(CHECK_DRIVER_LOADED))

#define SPE_MODULE      "arm_spe_pmu"
#define ADVICE_RELOAD   "modprobe -r " SPE_MODULE " && modprobe " SPE_MODULE
#define ADVICE_READ_LOG "dmesg | grep -e " SPE_MODULE " -e 'ACPI: SPE' -e arm,spe-v1"

typedef struct Readiness {
        const ReadinessInput *input;
        HostFacts facts;
        Check *checks; /* _CHECK_N of them */
} Readiness;

/* Sets a check's status and its sentence; adds its advice. 0 or -ENOMEM. */
int readiness_say(Readiness *readiness, CheckId id, CheckStatus status, const char *format, ...)
        __attribute__((__format__(__printf__, 4, 5)));
int readiness_advise(Readiness *readiness, CheckId id, const char *format, ...)
        __attribute__((__format__(__printf__, 3, 4)));

/* Advises to add @argument to the kernel's command line (or, if @remove, to take it away). */
int readiness_advise_argument(Readiness *readiness, CheckId id, const char *argument, bool remove);

/* Advises how the kernel's log becomes readable, where it is not. */
int readiness_advise_log(Readiness *readiness, CheckId id);

/* Why the kernel's log says nothing: a clause, "the kernel log may not be read". NULL if it was read. */
const char *readiness_log_problem(const Readiness *readiness);

/* If one of the @causes failed, @id cannot be asked: it becomes unknown, naming that. *@ret_r: 0 or -ENOMEM.
 */
bool readiness_follows(Readiness *readiness, CheckId id, unsigned causes, int *ret_r);

/* The last message of a device that is @message, or NULL. */
const SpeProbe *readiness_find_message(const Readiness *readiness, SpeMessage message);

int check_cpu(Readiness *readiness);
int check_firmware(Readiness *readiness);
int check_kpti(Readiness *readiness);
int check_driver_built(Readiness *readiness);
int check_driver_loaded(Readiness *readiness);
int check_driver_probe(Readiness *readiness);
int check_instances(Readiness *readiness);
int check_mem_sampling(Readiness *readiness);
int check_perf_paranoid(Readiness *readiness);
int check_kvm(Readiness *readiness);
int check_kvm_mode(Readiness *readiness);
int check_guest(Readiness *readiness);
int check_memlock(Readiness *readiness);
int check_btf(Readiness *readiness);
int check_bpf_lsm(Readiness *readiness);
int check_trampolines(Readiness *readiness);
int check_level(Readiness *readiness);
