/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The driver: built, loaded, and its probe. What keeps a probe from succeeding
 * before the driver touches the hardware (no SPE, no interrupt, KPTI) is said by the checks before; here is
 * what is left.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "host/readiness-checks.h"

#define DRIVER_PATH      "sys/bus/platform/drivers/" SPE_MODULE
#define DRIVERS_PATH     "sys/bus/platform/drivers"
#define KERNEL_NAME_MAX  (FACT_TEXT_MAX + sizeof("kernel "))
#define DRIVER_FILES_MAX 4096U

/* "kernel 6.12.48", in @buffer. */
static const char *kernel_of(const Readiness *readiness, char buffer[static KERNEL_NAME_MAX]) {
        if (readiness->facts.release[0] == '\0')
                return "this kernel";
        (void)snprintf(buffer, KERNEL_NAME_MAX, "kernel %s", readiness->facts.release);
        return buffer;
}

static int advise_build(Readiness *readiness, const char *kernel) {
        if (strcmp(readiness->facts.distribution, "ubuntu") == 0 &&
            kernel_config_option(readiness->facts.config, "CONFIG_ARM_SPE_PMU") != KERNEL_OPTION_OFF)
                return readiness_advise(readiness, CHECK_DRIVER_BUILT,
                                        "apt install linux-modules-extra-$(uname -r)");
        if (readiness->facts.config && readiness->facts.build == DRIVER_BUILD_MISSING)
                return readiness_advise(readiness, CHECK_DRIVER_BUILT,
                                        "Install the package of %s that has the module " SPE_MODULE ".",
                                        kernel);
        return readiness_advise(readiness, CHECK_DRIVER_BUILT,
                                "Boot a kernel that is built with CONFIG_ARM_SPE_PMU=m.");
}

int check_driver_built(Readiness *readiness) {
        char buffer[KERNEL_NAME_MAX];
        const char *kernel = kernel_of(readiness, buffer);
        int r;

        if (readiness_follows(readiness, CHECK_DRIVER_BUILT, CAUSE(CHECK_CPU), &r))
                return r;
        if (readiness->facts.ready && readiness->facts.build < DRIVER_BUILD_MODULE)
                return readiness_say(readiness, CHECK_DRIVER_BUILT, CHECK_OK,
                                     "The kernel has the driver: %s is registered.",
                                     readiness->facts.ready->name);

        switch (readiness->facts.build) {
        case DRIVER_BUILD_BUILTIN:
                return readiness_say(readiness, CHECK_DRIVER_BUILT, CHECK_OK,
                                     "The driver is built into the kernel.");
        case DRIVER_BUILD_MODULE:
                return readiness_say(readiness, CHECK_DRIVER_BUILT, CHECK_OK,
                                     "The driver is a module of the kernel.");
        case DRIVER_BUILD_MISSING:
                r = readiness_say(readiness, CHECK_DRIVER_BUILT, CHECK_FAILED,
                                  "The driver is built as a module, which is not installed for %s.", kernel);
                return r < 0 ? r : advise_build(readiness, kernel);
        case DRIVER_BUILD_NONE:
                r = readiness_say(readiness, CHECK_DRIVER_BUILT, CHECK_FAILED,
                                  "The driver " SPE_MODULE " is neither built into %s nor among its modules.",
                                  kernel);
                return r < 0 ? r : advise_build(readiness, kernel);
        default:
                return readiness_say(readiness, CHECK_DRIVER_BUILT, CHECK_UNKNOWN,
                                     "Neither the lists of modules nor the configuration of %s can be read.",
                                     kernel);
        }
}

/* The driver says nothing of itself while it is loaded, or unloaded, by another. */
static int check_module_state(Readiness *readiness) {
        char state[FACT_TEXT_MAX];
        int r;

        r = host_facts_line(&readiness->facts, "sys/module/" SPE_MODULE "/initstate", state, sizeof(state));
        if (r < 0)
                return r;
        if (r == 0 && strcmp(state, "live") != 0)
                return readiness_say(readiness, CHECK_DRIVER_LOADED, CHECK_UNKNOWN,
                                     "The module is being loaded or removed: its state is \"%s\".", state);
        return readiness_say(readiness, CHECK_DRIVER_LOADED, CHECK_OK, "The module is loaded.");
}

static int say_not_loaded(Readiness *readiness) {
        int r;

        if (readiness->facts.build == DRIVER_BUILD_BUILTIN) {
                r = readiness_say(readiness, CHECK_DRIVER_LOADED, CHECK_FAILED,
                                  "The driver is built in, and did not register itself.");
                return r < 0 ? r : readiness_advise(readiness, CHECK_DRIVER_LOADED, ADVICE_READ_LOG);
        }
        r = readiness_say(readiness, CHECK_DRIVER_LOADED, CHECK_FAILED, "The module is not loaded.");
        return r < 0 ? r
                     : readiness_advise(readiness, CHECK_DRIVER_LOADED,
                                        "modprobe " SPE_MODULE " && echo " SPE_MODULE
                                        " > /etc/modules-load.d/" SPE_MODULE ".conf");
}

int check_driver_loaded(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;
        int r;

        if (readiness->input->topology->driver == DRIVER_MODULE)
                return check_module_state(readiness);
        if (readiness->input->topology->driver == DRIVER_BUILTIN)
                return readiness_say(readiness, CHECK_DRIVER_LOADED, CHECK_OK,
                                     "The driver, which is built in, has registered itself.");
        if (facts->ready)
                return readiness_say(readiness, CHECK_DRIVER_LOADED, CHECK_OK,
                                     "The driver is loaded: %s is registered.", facts->ready->name);
        if (readiness_follows(readiness, CHECK_DRIVER_LOADED, CAUSE(CHECK_CPU) | CAUSE(CHECK_DRIVER_BUILT),
                              &r))
                return r;
        if (host_facts_exists(facts, DRIVERS_PATH) == ANSWER_YES &&
            host_facts_exists(facts, DRIVER_PATH) == ANSWER_NO)
                return say_not_loaded(readiness);
        return readiness_say(readiness, CHECK_DRIVER_LOADED, CHECK_UNKNOWN,
                             "The drivers of the platform bus are not to be seen here.");
}

/* The driver's directory links to each device that it has taken. */
static int find_bound(const Readiness *readiness, Answer *ret_bound) {
        _cleanup_(closep) int fd = openat(readiness->facts.root_fd, DRIVER_PATH,
                                          O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
        _cleanup_(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        size_t n = 0;

        *ret_bound = ANSWER_UNKNOWN;
        if (!dir)
                return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? -errno : 0;
        (void)steal_fd(&fd);

        *ret_bound = ANSWER_NO;
        for (struct dirent *entry; n < DRIVER_FILES_MAX && (entry = readdir(dir)); n++)
                if (entry->d_type == DT_LNK && strcmp(entry->d_name, "module") != 0)
                        *ret_bound = ANSWER_YES;
        return 0;
}

static const struct {
        SpeMessage message;
        const char *reason;
        const char *advice; /* NULL: nothing helps on this host */
} probe_words[] = {
        {SPE_HIGHER_LEVEL, " found that a higher exception level keeps the profiling buffer",
         "Update the kernel if it is an early 6.13, else the firmware: it must leave the profiling buffer to "
         "the "
         "kernel (MDCR_EL3.NSPB)."},
        {SPE_ALIGNMENT, " cannot align its buffer as this hardware wants it", NULL},
        {SPE_RECORD_SIZE, " cannot do with the size of this hardware's records", NULL},
        {SPE_NO_NAME, " had no memory", ADVICE_RELOAD},
        {SPE_NO_MEMORY, " had no memory", ADVICE_RELOAD},
        {SPE_NOT_REGISTERED, " found the hardware good, and could not register it", ADVICE_RELOAD},
        {SPE_FAILED, " failed", ADVICE_RELOAD},
};

static int say_probe_failed(Readiness *readiness, const SpeProbe *probe) {
        const char *reason = " failed", *advice = NULL, *error = NULL;
        int r;

        for (size_t i = 0; i < ELEMENTS_OF(probe_words); i++)
                if (probe_words[i].message == probe->message) {
                        reason = probe_words[i].reason;
                        advice = probe_words[i].advice;
                }
        if (probe->message == SPE_HIGHER_LEVEL && readiness->facts.hypervisor) {
                reason = " found that the hypervisor of this virtual machine keeps the profiling buffer";
                advice = NULL;
        }
        if (probe->message == SPE_NOT_REGISTERED || probe->message == SPE_FAILED)
                error = strerrorname_np(probe->error);
        if (advice && strcmp(advice, ADVICE_RELOAD) == 0 && readiness->facts.build == DRIVER_BUILD_BUILTIN)
                advice = "reboot";

        r = readiness_say(readiness, CHECK_DRIVER_PROBE, CHECK_FAILED, "The driver%s%s%s%s: \"%s\".", reason,
                          error ? " (" : "", error ?: "", error ? ")" : "", probe->text);
        return r < 0 || !advice ? r : readiness_advise(readiness, CHECK_DRIVER_PROBE, "%s", advice);
}

/* There is a device, and the driver does not have it: it has failed without a word, or the word is lost. */
static int say_not_bound(Readiness *readiness) {
        const char *log_problem = readiness_log_problem(readiness);
        int r;

        r = readiness_say(readiness, CHECK_DRIVER_PROBE, CHECK_FAILED,
                          "The driver does not take the device that is there for it, and %s.",
                          log_problem ?: "the kernel log does not say why");
        if (r < 0)
                return r;
        r = readiness_advise_log(readiness, CHECK_DRIVER_PROBE);
        if (r < 0 || readiness->checks[CHECK_DRIVER_PROBE].advice)
                return r;
        return readiness_advise(readiness, CHECK_DRIVER_PROBE, "%s",
                                readiness->facts.build == DRIVER_BUILD_BUILTIN
                                        ? "Bring a CPU of each core type on line at boot, and reboot."
                                        : ADVICE_RELOAD "; " ADVICE_READ_LOG);
}

int check_driver_probe(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;
        const SpeProbe *failure = kernel_messages_failure(&facts->log), *probed;
        Answer bound;
        bool loaded;
        int r;

        if (facts->ready)
                return readiness_say(readiness, CHECK_DRIVER_PROBE, CHECK_OK, "The driver has registered %s.",
                                     facts->ready->name);
        if (readiness_follows(readiness, CHECK_DRIVER_PROBE, CAUSES_OF_PROBE, &r))
                return r;
        if (failure)
                return say_probe_failed(readiness, failure);
        probed = readiness_find_message(readiness, SPE_PROBED);
        if (probed)
                return readiness_say(readiness, CHECK_DRIVER_PROBE, CHECK_OK, "The driver says \"%s\".",
                                     probed->text);

        r = find_bound(readiness, &bound);
        if (r < 0)
                return r;
        if (bound == ANSWER_YES)
                return readiness_say(readiness, CHECK_DRIVER_PROBE, CHECK_OK,
                                     "The driver has taken the device that is there for it.");
        loaded = readiness->checks[CHECK_DRIVER_LOADED].status == CHECK_OK;
        if (loaded && bound == ANSWER_NO && facts->device == ANSWER_YES)
                return say_not_bound(readiness);
        r = readiness_say(readiness, CHECK_DRIVER_PROBE, CHECK_UNKNOWN, "The driver %s, and %s.",
                          loaded ? "is there" : "is not known to be there",
                          readiness_log_problem(readiness) ?: "the kernel log says nothing of it");
        return r < 0 ? r : readiness_advise_log(readiness, CHECK_DRIVER_PROBE);
}
