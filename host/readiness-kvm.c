/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * KVM: there or not, in which mode, and whether it gives SPE to guests, as probed. A probe that says yes
 * proves all three. SPE for guests needs VHE: neither nVHE and hVHE nor protected KVM have it.
 */

#include "host/readiness-checks.h"

#define KVM_DEVICE   "sys/devices/virtual/misc/kvm"
#define MISC_DEVICES "sys/devices/virtual/misc"
#define MODE         "kvm-arm.mode"

/* What a guest's SPE depends on. */
#define BEFORE_GUEST (CAUSE(CHECK_GUEST) - 1)

/* KVM gives at least one of the SPUs to a guest. */
static bool given(const Readiness *readiness) {
        return readiness->input->guest == CHECK_OK || readiness->input->guest == CHECK_WARNING;
}

static int fail(Readiness *readiness, CheckId id, const char *reason, const char *advice) {
        int r;

        r = readiness_say(readiness, id, CHECK_FAILED, "%s", reason);
        return r < 0 || !advice ? r : readiness_advise(readiness, id, "%s", advice);
}

/* The kernel's command line is why; what stands on it is to be taken away. */
static int fail_for_argument(Readiness *readiness, CheckId id, const char *argument, const char *reason) {
        int r;

        r = readiness_say(readiness, id, CHECK_FAILED, "%s: %s is on the kernel's command line.", reason,
                          argument);
        return r < 0 ? r : readiness_advise_argument(readiness, id, argument, true);
}

static int say_no_hyp(Readiness *readiness) {
        if (readiness->facts.hypervisor)
                return fail(readiness, CHECK_KVM,
                            "This is a virtual machine without nested virtualization: KVM says that HYP mode "
                            "is not "
                            "available.",
                            NULL);
        return fail(
                readiness, CHECK_KVM,
                "The kernel was not started at EL2: KVM says that HYP mode is not available.",
                "Let the firmware or boot loader start the kernel at EL2, if this is not a virtual machine.");
}

static int say_no_kvm(Readiness *readiness) {
        if (kernel_config_option(readiness->facts.config, "CONFIG_KVM") == KERNEL_OPTION_OFF)
                return fail(readiness, CHECK_KVM, "The kernel is built without KVM.",
                            "Boot a kernel that is built with CONFIG_KVM=y.");
        return fail(readiness, CHECK_KVM, "KVM is not there.", "dmesg | grep 'kvm \\['");
}

int check_kvm(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;
        int r;

        if (given(readiness))
                return readiness_say(readiness, CHECK_KVM, CHECK_OK,
                                     "KVM is there: it was asked for a guest.");
        if (facts->arm64 == ANSWER_NO && readiness_follows(readiness, CHECK_KVM, CAUSE(CHECK_CPU), &r))
                return r;
        if (host_facts_exists(facts, KVM_DEVICE) == ANSWER_YES)
                return readiness_say(readiness, CHECK_KVM, CHECK_OK, "KVM is there.");

        if (facts->log.kvm == KVM_NO_HYP)
                return say_no_hyp(readiness);
        if (host_facts_argument(facts, MODE, "none"))
                return fail_for_argument(readiness, CHECK_KVM, MODE "=none", "KVM is switched off");
        if (facts->log.kvm == KVM_ERROR) {
                r = readiness_say(readiness, CHECK_KVM, CHECK_FAILED, "KVM could not start: \"%s\".",
                                  facts->log.kvm_text);
                return r < 0 ? r : readiness_advise(readiness, CHECK_KVM, "dmesg | grep 'kvm \\['");
        }
        if (facts->log.kvm != KVM_SILENT && facts->log.kvm != KVM_DISABLED)
                return readiness_say(readiness, CHECK_KVM, CHECK_OK, "KVM has started: \"%s\".",
                                     facts->log.kvm_text);
        if (host_facts_exists(facts, KVM_DEVICE) == ANSWER_NO &&
            host_facts_exists(facts, MISC_DEVICES) == ANSWER_YES)
                return say_no_kvm(readiness);
        return readiness_say(readiness, CHECK_KVM, CHECK_UNKNOWN,
                             "Nothing here says whether the kernel has KVM.");
}

int check_kvm_mode(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;
        bool nvhe = host_facts_argument(facts, MODE, "nvhe"),
             protected = host_facts_argument(facts, MODE, "protected");
        int r;

        if (given(readiness))
                return readiness_say(readiness, CHECK_KVM_MODE, CHECK_OK,
                                     "KVM gives SPE to guests in this mode.");
        if (readiness_follows(readiness, CHECK_KVM_MODE, CAUSE(CHECK_KVM), &r))
                return r;
        if (facts->arm64 == ANSWER_NO && readiness_follows(readiness, CHECK_KVM_MODE, CAUSE(CHECK_CPU), &r))
                return r;

        if (facts->log.kvm == KVM_VHE)
                return readiness_say(readiness, CHECK_KVM_MODE, CHECK_OK, "KVM runs in VHE mode.");
        if (facts->log.kvm == KVM_PROTECTED || (facts->log.kvm == KVM_SILENT && protected)) {
                if (protected)
                        return fail_for_argument(readiness, CHECK_KVM_MODE, MODE "=protected",
                                                 "Protected KVM gives no SPE to guests");
                return fail(readiness, CHECK_KVM_MODE, "Protected KVM gives no SPE to guests.", NULL);
        }
        if (facts->log.kvm == KVM_NVHE || (facts->log.kvm == KVM_SILENT && nvhe)) {
                if (nvhe)
                        return fail_for_argument(readiness, CHECK_KVM_MODE, MODE "=nvhe",
                                                 "KVM without VHE gives no SPE to guests");
                return fail(readiness, CHECK_KVM_MODE,
                            "KVM runs without VHE here, and so gives no SPE to guests.", NULL);
        }
        r = readiness_say(readiness, CHECK_KVM_MODE, CHECK_UNKNOWN,
                          "KVM's mode stands in the kernel log only: %s.",
                          readiness_log_problem(readiness) ?: "it is not there any more");
        return r < 0 ? r : readiness_advise_log(readiness, CHECK_KVM_MODE);
}

int check_guest(Readiness *readiness) {
        const ReadinessInput *input = readiness->input;
        int r;

        if (!given(readiness) && readiness_follows(readiness, CHECK_GUEST, BEFORE_GUEST, &r))
                return r;
        r = readiness_say(readiness, CHECK_GUEST, input->guest, "%s",
                          input->guest_reason ?: "No reason is known.");
        return r < 0 || !input->guest_advice
                       ? r
                       : readiness_advise(readiness, CHECK_GUEST, "%s", input->guest_advice);
}

int check_memlock(Readiness *readiness) {
        const ReadinessInput *input = readiness->input;
        int r;

        if (input->memlock_managed && input->memlock_able)
                return readiness_say(readiness, CHECK_MEMLOCK, CHECK_OK,
                                     "The broker raises RLIMIT_MEMLOCK for the leases that it grants.");
        if (input->memlock_managed) {
                r = readiness_say(readiness, CHECK_MEMLOCK, CHECK_WARNING,
                                  "The broker lacks CAP_SYS_RESOURCE, so it cannot raise RLIMIT_MEMLOCK: KVM "
                                  "refuses a guest's buffer that is above the limit of its VMM.");
                return r < 0 ? r
                             : readiness_advise(readiness, CHECK_MEMLOCK,
                                                "Give spe-broker CAP_SYS_RESOURCE, as its unit does.");
        }

        r = readiness_say(
                readiness, CHECK_MEMLOCK, CHECK_WARNING,
                "The broker leaves RLIMIT_MEMLOCK alone: KVM refuses a guest's buffer that is above the "
                "limit of its VMM.");
        return r < 0 ? r
                     : readiness_advise(
                               readiness, CHECK_MEMLOCK,
                               "Start VMMs with LimitMEMLOCK=infinity, or with: ulimit -l unlimited");
}
