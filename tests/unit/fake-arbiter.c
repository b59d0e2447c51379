/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One kernel per test program. As in the real one an event is in the table, and the generation counted up,
 * before the closed sets are looked at.
 */

#include "tests/unit/fake-arbiter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define FIRST_ID UINT64_C(0xffff888000000000) /* as an address of the kernel's looks */
#define ID_STEP  0x580U

FakeArbiter fake_arbiter = {.bell = -1};

void fake_arbiter_reset(ArbiterHook hook) {
        FakeArbiter *fake = &fake_arbiter;

        assert_false(fake->there);
        free(fake->sessions);
        free(fake->refusals);
        free(fake->pmus);
        if (fake->bell >= 0)
                close(fake->bell);
        *fake = (FakeArbiter){.hook = hook, .bell = -1, .last_id = FIRST_ID};
        if (hook != ARBITER_HOOK_NONE) {
                fake->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                assert_true(fake->bell >= 0);
        }
}

void fake_ring(void) {
        if (fake_arbiter.bell >= 0)
                assert_int_equal(eventfd_write(fake_arbiter.bell, 1), 0);
}

static const ArbiterPmu *find_pmu(const char *name) {
        for (size_t i = 0; i < fake_arbiter.n_pmus; i++)
                if (strcmp(fake_arbiter.pmus[i].name, name) == 0)
                        return &fake_arbiter.pmus[i];
        return NULL;
}

const char *fake_pmu_of(unsigned cpu) {
        for (size_t i = 0; i < fake_arbiter.n_pmus; i++)
                if (cpuset_has(&fake_arbiter.pmus[i].cpus, cpu))
                        return fake_arbiter.pmus[i].name;
        return "arm_spe_0";
}

static uint64_t boottime_nsec(void) {
        struct timespec ts;

        assert_int_equal(clock_gettime(CLOCK_BOOTTIME, &ts), 0);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static ArbiterSession *find_session(uint64_t id) {
        for (size_t i = 0; i < fake_arbiter.n_sessions; i++)
                if (fake_arbiter.sessions[i].id == id)
                        return &fake_arbiter.sessions[i];
        return NULL;
}

static void take_out(uint64_t id) {
        ArbiterSession *session = find_session(id);

        assert_non_null(session);
        *session = fake_arbiter.sessions[--fake_arbiter.n_sessions];
        fake_arbiter.generation++;
}

static CpuSet affinity_of(pid_t thread) {
        CpuSet cpus = CPUSET_NULL;
        cpu_set_t mask;

        if (sched_getaffinity(thread, sizeof(mask), &mask) == 0)
                for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
                        if (CPU_ISSET(cpu, &mask))
                                cpuset_add(&cpus, cpu);
        return cpus;
}

uint64_t fake_put(ArbiterSession wanted) {
        FakeArbiter *fake = &fake_arbiter;

        fake->sessions = realloc(fake->sessions, (fake->n_sessions + 1) * sizeof(*fake->sessions));
        assert_non_null(fake->sessions);
        wanted.id = fake->last_id += ID_STEP;
        wanted.entering = fake->entering;
        fake->sessions[fake->n_sessions++] = wanted;
        fake->generation++;
        fake->counters.opened++;
        fake_ring();
        return wanted.id;
}

/* True if it is refused, and why. */
static bool is_closed(const ArbiterSession *wanted, const CpuSet *affinity, ArbiterCause *ret_cause) {
        const ArbiterPmu *pmu = find_pmu(wanted->pmu);
        FakeArbiter *fake = &fake_arbiter;
        CpuSet reach = CPUSET_NULL;

        if (wanted->cpu >= 0)
                cpuset_add(&reach, (unsigned)wanted->cpu);
        else
                cpuset_add_range(&reach, 0, CPUSET_MAX - 1);
        if (wanted->target_thread == 0) {
                *ret_cause = ARBITER_CAUSE_CPU_WIDE;
                return cpuset_intersects(&reach, &fake->closed.cpu_wide);
        }

        cpuset_and(&reach, affinity);
        if (pmu)
                cpuset_and(&reach, &pmu->cpus);
        *ret_cause = ARBITER_CAUSE_TASK_BOUND;
        if (cpuset_intersects(&reach, &fake->closed.task_bound))
                return true;

        *ret_cause = ARBITER_CAUSE_OWNER;
        for (size_t i = 0; i < fake->n_owners; i++)
                if (fake->owners[i].owner == (OwnerKey)wanted->target_process &&
                    cpuset_intersects(&reach, &fake->owners[i].cpus))
                        return true;
        return false;
}

void fake_refuse(const ArbiterRefusal *refusal) {
        FakeArbiter *fake = &fake_arbiter;

        fake->refusals = realloc(fake->refusals, (fake->n_refusals + 1) * sizeof(*fake->refusals));
        assert_non_null(fake->refusals);
        fake->refusals[fake->n_refusals++] = *refusal;
        fake->counters.refused++;
        fake_ring();
}

uint64_t fake_open(ArbiterSession wanted) {
        FakeArbiter *fake = &fake_arbiter;
        ArbiterRefusal refusal = {.session = wanted};
        uint64_t id;

        if (wanted.opened_nsec == 0)
                wanted.opened_nsec = boottime_nsec();
        id = fake_put(wanted);
        if (wanted.target_thread > 0)
                refusal.affinity = affinity_of(wanted.target_thread);
        if (fake->used != ARBITER_HOOK_LSM || !is_closed(&wanted, &refusal.affinity, &refusal.cause))
                return id;

        take_out(id);
        fake->counters.opened--;
        fake_refuse(&refusal);
        return 0;
}

void fake_decide(void) {
        for (size_t i = 0; i < fake_arbiter.n_sessions; i++)
                fake_arbiter.sessions[i].entering = false;
}

void fake_close(uint64_t id) {
        take_out(id);
        fake_arbiter.counters.closed++;
        fake_ring();
}

size_t fake_count(void) {
        return fake_arbiter.n_sessions;
}

/* Everything else is in fake_arbiter: that of the one that was made last, which takes over from the one
 * before. */
struct Arbiter {
        ArbiterHook hook;
};

static const Arbiter *last;

int arbiter_new(ArbiterHook highest, _unused_ NamedFd *kept, _unused_ size_t n_kept, Arbiter **ret_arbiter) {
        Arbiter *arbiter;

        if (fake_arbiter.new_error < 0)
                return fake_arbiter.new_error;

        arbiter = calloc(1, sizeof(*arbiter));
        assert_non_null(arbiter);
        arbiter->hook = highest < fake_arbiter.hook ? highest : fake_arbiter.hook;
        fake_arbiter.there = true;
        fake_arbiter.used = arbiter->hook;
        if (!fake_arbiter.keeps) {
                fake_arbiter.closed = (ArbiterClosed){0};
                fake_arbiter.n_owners = 0;
        }
        last = *ret_arbiter = arbiter;
        return 0;
}

Arbiter *arbiter_free(Arbiter *arbiter) {
        if (arbiter && arbiter == last) {
                last = NULL;
                fake_arbiter.there = false;
                fake_arbiter.used = ARBITER_HOOK_NONE;
                if (!fake_arbiter.keeps) {
                        fake_arbiter.closed = (ArbiterClosed){0};
                        fake_arbiter.n_owners = 0;
                }
        }

        free(arbiter);
        return NULL;
}

ArbiterHook arbiter_get_hook(const Arbiter *arbiter) {
        return arbiter->hook;
}

const char *arbiter_get_reason(const Arbiter *arbiter) {
        return arbiter->hook == ARBITER_HOOK_LSM ? NULL : "this kernel is a fake";
}

const char *arbiter_get_advice(_unused_ const Arbiter *arbiter) {
        return NULL;
}

void arbiter_get_counters(_unused_ const Arbiter *arbiter, ArbiterCounters *ret_counters) {
        *ret_counters = fake_arbiter.counters;
}

size_t arbiter_get_kept(_unused_ const Arbiter *arbiter, _unused_ NamedFd *kept, _unused_ size_t n) {
        return 0;
}

int arbiter_get_fd(const Arbiter *arbiter) {
        return arbiter->hook == ARBITER_HOOK_NONE ? -1 : fake_arbiter.bell;
}

int arbiter_process(_unused_ Arbiter *arbiter, ArbiterRefusalFn refused, void *userdata) {
        eventfd_t value;

        if (eventfd_read(fake_arbiter.bell, &value) < 0)
                assert_int_equal(errno, EAGAIN);
        for (size_t i = 0; i < fake_arbiter.n_refusals; i++)
                refused(&fake_arbiter.refusals[i], userdata);
        fake_arbiter.n_refusals = 0;
        return 0;
}

int arbiter_set_pmus(_unused_ Arbiter *arbiter, const ArbiterPmu *pmus, size_t n_pmus) {
        free(fake_arbiter.pmus);
        fake_arbiter.pmus = calloc(n_pmus + 1, sizeof(*pmus));
        assert_non_null(fake_arbiter.pmus);
        if (n_pmus > 0)
                memcpy(fake_arbiter.pmus, pmus, n_pmus * sizeof(*pmus));
        fake_arbiter.n_pmus = n_pmus;
        return 0;
}

static void tell_change(void) {
        if (fake_arbiter.changed_fn)
                fake_arbiter.changed_fn();
}

void arbiter_close(Arbiter *arbiter, const ArbiterClosed *closed) {
        assert_ptr_equal(arbiter, last);
        fake_arbiter.n_closes++;
        fake_arbiter.closed = *closed;
        tell_change();
        if (fake_arbiter.closed_fn)
                fake_arbiter.closed_fn();
}

int arbiter_close_owner(_unused_ Arbiter *arbiter, OwnerKey owner, const CpuSet *cpus) {
        FakeArbiter *fake = &fake_arbiter;
        size_t i = 0;

        while (i < fake->n_owners && fake->owners[i].owner != owner)
                i++;
        if (cpuset_is_empty(cpus)) {
                if (i < fake->n_owners)
                        fake->owners[i] = fake->owners[--fake->n_owners];
                tell_change();
                return 0;
        }
        if (i == FAKE_OWNERS_MAX)
                return -E2BIG;

        fake->owners[i] = (FakeOwner){owner, *cpus};
        if (i == fake->n_owners)
                fake->n_owners++;
        tell_change();
        return 0;
}

int arbiter_open_owners(_unused_ Arbiter *arbiter, ArbiterStaysFn stays, void *userdata) {
        FakeArbiter *fake = &fake_arbiter;
        size_t n = 0;

        for (size_t i = 0; i < fake->n_owners; i++)
                if (stays(fake->owners[i].owner, userdata))
                        fake->owners[n++] = fake->owners[i];
        fake->n_owners = n;
        tell_change();
        return 0;
}

uint64_t arbiter_get_generation(_unused_ const Arbiter *arbiter) {
        return fake_arbiter.generation;
}

int arbiter_read(_unused_ const Arbiter *arbiter, ArbiterSession **ret_sessions, size_t *ret_n) {
        FakeArbiter *fake = &fake_arbiter;
        ArbiterSession *sessions;

        fake->n_reads++;
        if (fake->read_fn)
                fake->read_fn();
        if (fake->read_error < 0)
                return fake->read_error;

        sessions = calloc(fake->n_sessions + 1, sizeof(*sessions));
        assert_non_null(sessions);
        if (fake->n_sessions > 0)
                memcpy(sessions, fake->sessions, fake->n_sessions * sizeof(*sessions));
        *ret_sessions = sessions;
        *ret_n = fake->n_sessions;
        return 0;
}

int arbiter_iterate(_unused_ Arbiter *arbiter, _unused_ pid_t process) {
        fake_arbiter.n_iterations++;
        if (fake_arbiter.iterate_fn)
                fake_arbiter.iterate_fn();
        return 0;
}

int arbiter_read_holders(_unused_ const Arbiter *arbiter, pid_t **ret_processes, size_t *ret_n) {
        const FakeArbiter *fake = &fake_arbiter;
        pid_t *processes = calloc(FAKE_HOLDERS_MAX, sizeof(*processes));

        assert_non_null(processes);
        memcpy(processes, fake->holders, sizeof(fake->holders));
        *ret_processes = processes;
        *ret_n = fake->n_holders;
        return 0;
}

void arbiter_forget_holder(_unused_ Arbiter *arbiter, pid_t process) {
        FakeArbiter *fake = &fake_arbiter;

        for (size_t i = 0; i < fake->n_holders; i++)
                if (fake->holders[i] == process)
                        fake->holders[i--] = fake->holders[--fake->n_holders];
}

void arbiter_forget(_unused_ Arbiter *arbiter, uint64_t id) {
        if (find_session(id))
                take_out(id);
        fake_arbiter.counters.drifted++;
}
