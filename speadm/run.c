/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm run: an unmodified VMM under a lease. The lease is taken for this very process, which then becomes
 * the command: whatever goes wrong from here on, the lease ends with it.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "speadm/call.h"
#include "speadm/field.h"
#include "speadm/reconnect.h"
#include "speadm/request.h"
#include "speadm/scope.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "speadm/verb.h"
#include "util/clock.h"
#include "util/cpuset.h"
#include "util/fs.h"
#include "util/random.h"

/* The CPUs that this machine can ever have; all, where it does not say. */
static CpuSet possible_cpus(void) {
        char text[CPUSET_TEXT_MAX];
        CpuSet set = CPUSET_NULL;
        size_t n;

        if (fs_read_line(AT_FDCWD, "/sys/devices/system/cpu/possible", text, sizeof text, &n) != 0 ||
            cpuset_parse(text, n, &set) != 0)
                cpuset_add_range(&set, 0, CPUSET_MAX - 1);
        return set;
}

static int set_affinity(const CpuSet *cpus) {
        size_t size = CPU_ALLOC_SIZE(CPUSET_MAX);
        cpu_set_t *set = CPU_ALLOC(CPUSET_MAX);
        int r;

        if (!set)
                return -ENOMEM;
        CPU_ZERO_S(size, set);
        CPUSET_FOREACH(cpu, cpus)
                CPU_SET_S(cpu, size, set);
        r = sched_setaffinity(0, size, set) < 0 ? -errno : 0;
        CPU_FREE(set);
        return r;
}

/* KVM_RUN fails on other CPUs than the SPU's, so a command that cannot be kept to them is not started. */
static int pin(const char *cpus) {
        CpuSet set, possible;
        int r;

        if (cpuset_parse(cpus, strlen(cpus), &set) != 0) {
                complain("the broker says CPUs '%s', which is no list of CPUs", cpus);
                return SPEADM_FAILED;
        }
        r = set_affinity(&set);
        if (r == 0)
                return SPEADM_DONE;
        possible = possible_cpus();
        if (r == -EINVAL && !cpuset_intersects(&set, &possible)) {
                complain("this machine has none of CPUs %s (the broker looks at another one): running "
                         "unpinned",
                         cpus);
                return SPEADM_DONE;
        }
        complain("cannot keep this process to CPUs %s: %s%s", cpus, strerror(-r),
                 r == -EINVAL ? " (none of them is on line, or its cpuset leaves it none of them)" : "");
        return SPEADM_FAILED;
}

/*
 * The member that a lease cannot do without and does not have, or NULL. A VMM hands these to KVM, where a
 * buffer size of 0 means 'no limit' and a PMU type that is not there would name another PMU.
 */
static const char *missing_member(const struct json_object *lease) {
        static const char *const texts[] = {"leaseId", "cpus"}, *const numbers[] = {"pmuType", "interrupt"};

        for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
                const char *text = field_string(lease, texts[i]);

                if (!text || !*text)
                        return texts[i];
        }
        for (size_t i = 0; i < ELEMENTS_OF(numbers); i++)
                if (!field_has_int(lease, numbers[i]))
                        return numbers[i];
        return field_unsigned(lease, "bufferSize") == 0 ? "bufferSize" : NULL;
}

#define VARIABLE_LEASE       "SPE_BROKER_LEASE"
#define VARIABLE_PID         "SPE_BROKER_PID" /* whose it is: what the VMM starts inherits all of them */
#define VARIABLE_CPUS        "SPE_BROKER_CPUS"
#define VARIABLE_PMU_TYPE    "SPE_BROKER_PMU_TYPE"
#define VARIABLE_BUFFER_SIZE "SPE_BROKER_BUFFER_SIZE"
#define VARIABLE_INTERRUPT   "SPE_BROKER_INTERRUPT"

static const char *const variables[] = {
        VARIABLE_LEASE,    VARIABLE_PID,         VARIABLE_CPUS,
        VARIABLE_PMU_TYPE, VARIABLE_BUFFER_SIZE, VARIABLE_INTERRUPT,
};

static int export_number(const char *name, int64_t number) {
        char text[24];

        (void)snprintf(text, sizeof text, "%" PRId64, number);
        return setenv(name, text, /* overwrite= */ 1);
}

static int export_member(const char *name, const struct json_object *lease, const char *key) {
        return export_number(name, field_int(lease, key, 0));
}

/* A lease of a control group is everybody's who is in it. */
static int export_pid(bool of_process) {
        return of_process ? export_number(VARIABLE_PID, getpid()) : unsetenv(VARIABLE_PID);
}

static int export_lease(const struct json_object *lease, const char *cpus, bool of_process) {
        if (setenv(VARIABLE_LEASE, field_string(lease, "leaseId"), 1) < 0 || export_pid(of_process) < 0 ||
            setenv(VARIABLE_CPUS, cpus, 1) < 0 || export_member(VARIABLE_PMU_TYPE, lease, "pmuType") < 0 ||
            export_member(VARIABLE_BUFFER_SIZE, lease, "bufferSize") < 0 ||
            export_member(VARIABLE_INTERRUPT, lease, "interrupt") < 0)
                return complain_memory();
        return SPEADM_DONE;
}

static void tell_limited(const struct json_object *lease) {
        const char *limited_by = field_string(lease, "limitedBy");
        char granted[TEXT_SIZE_MAX], requested[TEXT_SIZE_MAX];

        if (limited_by)
                complain("the buffer is %s instead of %s: limited by %s",
                         text_size(field_unsigned(lease, "bufferSize"), granted),
                         text_size(field_unsigned(lease, "requestedBufferSize"), requested), limited_by);
}

/*
 * KVM pins the buffers, and says ENOMEM where the limit does not allow that. What the broker has raised, or
 * does not have to, is not told.
 */
static void tell_memlock(const struct json_object *lease) {
        const struct json_object *memlock = field_object(lease, "memlock");
        const char *state = field_string(memlock, "state");
        uint64_t bytes = field_unsigned(memlock, "bytes");
        struct rlimit limit;
        char now[TEXT_SIZE_MAX];

        if (!state || (strcmp(state, "unmanaged") != 0 && strcmp(state, "no_capability") != 0))
                return;
        if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
            limit.rlim_cur >= bytes)
                return;
        complain("RLIMIT_MEMLOCK is left at %s (%s): with SPE, the VM locks up to %" PRIu64
                 " bytes more than without, or KVM says ENOMEM",
                 text_size(limit.rlim_cur, now), state, bytes);
}

/* The broker notes the owner's name when it grants, and people look for the VMM's, not for speadm's. */
static void take_name(const char *command) {
        const char *slash = strrchr(command, '/');

        (void)prctl(PR_SET_NAME, slash ? slash + 1 : command);
}

static int execute(char **command) {
        int status;

        execvp(command[0], command);
        status = errno == ENOENT ? SPEADM_COMMAND_NOT_FOUND : SPEADM_CANNOT_EXECUTE;
        complain("cannot execute '%s': %m", command[0]);
        return status;
}

static int send_acquire(Speadm *speadm, const char *id, uint64_t wait_usec) {
        const Arguments *arguments = &speadm->arguments;
        JsonWriter *writer;
        int r;

        r = call_begin(speadm, BROKER "Acquire", 0, &writer);
        if (r != SPEADM_DONE)
                return r;
        request_write(writer, arguments, id);
        if (arguments_has(arguments, OPTION_WAIT_TIME))
                json_write_int(writer, "waitUSec", (int64_t)wait_usec);
        return call_send(speadm);
}

/*
 * A broker that restarts meanwhile is asked again: by the id it knows what it has granted already, and a
 * request that waits goes on waiting. It is not waited for longer than for an answer.
 */
static int acquire(Speadm *speadm, VarlinkReply *ret_reply) {
        uint64_t wait_usec = speadm->arguments.wait_usec, wait_deadline = clock_deadline(wait_usec);
        uint64_t deadline = clock_deadline(CALL_TIMEOUT_USEC + wait_usec), away_deadline;
        Reconnect again = RECONNECT_INIT;
        char id[RANDOM_ID_SIZE];
        int r;

        r = random_id(id);
        if (r < 0) {
                complain("there are no random numbers: %s", strerror(-r));
                return SPEADM_FAILED;
        }
        for (;;) {
                r = send_acquire(speadm, id, wait_usec);
                if (r != SPEADM_DONE)
                        return r;
                r = call_receive(speadm, CALL_TIMEOUT_USEC + wait_usec, ret_reply);
                if (r != CALL_LOST)
                        break;
                away_deadline = clock_deadline(CALL_TIMEOUT_USEC);
                if (clock_left(deadline) == 0 ||
                    !reconnect(&again, speadm, -1, away_deadline < deadline ? away_deadline : deadline))
                        return call_check(speadm, VARLINK_CLIENT_E_CLOSED, NULL);
                wait_usec = clock_left(wait_deadline);
        }
        reconnect_done(&again);
        return r;
}

/* The lease is of no use to a command that cannot keep to it. */
static void release(Speadm *speadm, const struct json_object *lease) {
        const char *id = field_string(lease, "leaseId");
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        JsonWriter *writer;

        if (!id || call_begin(speadm, BROKER "Release", 0, &writer) != SPEADM_DONE)
                return;
        json_write_string(writer, "leaseId", id);
        (void)call_end(speadm, 0, &reply);
}

/* This process has what the lease asks for, and says what it is. */
static int use_lease(const struct json_object *lease, bool of_process) {
        const char *cpus, *missing = missing_member(lease);
        int r;

        if (missing) {
                complain("the broker granted a lease without its %s", missing);
                return SPEADM_FAILED;
        }
        cpus = field_string(lease, "cpus");
        r = pin(cpus);
        if (r != SPEADM_DONE)
                return r;
        tell_limited(lease);
        tell_memlock(lease);
        return export_lease(lease, cpus, of_process);
}

static int take_lease(Speadm *speadm) {
        _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
        _cleanup_(freep) char *cgroup = NULL;
        const struct json_object *lease;
        int r;

        if (arguments_has(&speadm->arguments, OPTION_SCOPE)) {
                r = scope_enter(speadm->arguments.vm, &cgroup);
                if (r != SPEADM_DONE)
                        return r;
                speadm->arguments.cgroup = cgroup;
        }
        r = acquire(speadm, &reply);
        speadm->arguments.cgroup = NULL;
        if (r != SPEADM_DONE)
                return r;
        lease = field_object(reply.parameters, "lease");
        r = use_lease(lease, !cgroup);
        if (r != SPEADM_DONE && arguments_has(&speadm->arguments, OPTION_BEST_EFFORT))
                release(speadm, lease); /* else it ends with this process */
        return r;
}

/* What this process was started with is about another lease, which a VMM must not take for its own. */
static void forget_lease(void) {
        for (size_t i = 0; i < ELEMENTS_OF(variables); i++)
                (void)unsetenv(variables[i]);
}

int verb_run(Speadm *speadm) {
        const Arguments *arguments = &speadm->arguments;
        int r;

        r = request_check(arguments);
        if (r != SPEADM_DONE)
                return r;
        if (arguments_has(arguments, OPTION_SCOPE) && !arguments->vm)
                return complain_usage("--scope needs --vm NAME, after which the scope is named");
        take_name(arguments->operands[0]);
        r = take_lease(speadm);
        if (r != SPEADM_DONE && r != SPEADM_USAGE && arguments_has(arguments, OPTION_BEST_EFFORT)) {
                complain("running '%s' without a lease", arguments->operands[0]);
                forget_lease();
                r = SPEADM_DONE;
        }
        return r == SPEADM_DONE ? execute(arguments->operands) : r;
}
