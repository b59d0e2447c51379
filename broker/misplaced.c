/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel tells nobody when an affinity changes, nor when a thread takes a name, so both are looked at
 * again and again: each owner's threads every PERIOD_USEC. Never more than SLICE_THREADS at a time, and then
 * SLICE_USEC nothing, which is a hundredth of the broker's time however many VMs there are and whatever they
 * do; with more than some 2,500 threads in all, each owner's turn comes later than that. Owners are in a
 * queue by when they were looked at last, and the first is due first.
 *
 * A thread is well placed if it may run on the CPUs of its process's leases alone: which of several leases a
 * VCPU belongs to, nobody can tell from outside. A process without a thread that is named as VCPUs' are is
 * not judged, nor are a control group's, of which no one has the lease; nor is a lease of which no CPU can be
 * used.
 */

#include "broker/misplaced.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/events.h"
#include "broker/manager.h"
#include "host/threads.h"
#include "util/clock.h"
#include "util/fs.h"

#define PERIOD_USEC   (2 * USEC_PER_SEC)
#define SLICE_USEC    UINT64_C(50000)
#define SLICE_THREADS 64U
#define ACCURACY_USEC UINT64_C(10000)

/* So many threads are looked at before the first client is answered. */
#define START_THREADS 4096U

/* So many of one process, the most VCPUs that there can be and as many others: who has more is judged by
 * these. */
#define OWNER_THREADS_MAX 8192U

/* Up to so many threads are named one by one in the line to paste, so that it moves no other. */
#define NAMED_MAX 16U

/* What is known of the owner that is first in the queue, while its threads are being walked. */
typedef struct Look {
        ThreadWalk walk;
        unsigned threads_left;
        CpuSet allowed;           /* by its leases, when the walk began */
        unsigned n;               /* VCPU threads */
        unsigned n_outside;       /* of those, the misplaced ones */
        pid_t outside[NAMED_MAX]; /* the first of them */
        CpuSet outside_cpus;      /* where they may run, and should not */
} Look;

struct Misplaced {
        Manager *manager;
        sd_event_source *timer;
        CpuSet present; /* CPUs that a process can run on: those of the machine that is looked at, or of this
                           one */
        TAILQ_HEAD(, LeaseOwner) owners;
        Look look;
};

/* Processes are always this machine's, whatever tree the broker looks at. */
static void read_present(Misplaced *misplaced) {
        char text[CPUSET_TEXT_MAX];
        size_t n;

        if (!misplaced->manager->foreign ||
            fs_read_line(AT_FDCWD, "/sys/devices/system/cpu/present", text, sizeof(text), &n) != 0 ||
            cpuset_parse(text, n, &misplaced->present) != 0)
                cpuset_add_range(&misplaced->present, 0, CPUSET_MAX - 1);
}

/* True for a lease to whose CPUs a process can be moved. */
static bool is_judged(const Misplaced *misplaced, const Lease *lease) {
        return lease_is_holding(lease) && !lease->away &&
               cpuset_intersects(&lease->usable, &misplaced->present);
}

/* Where the threads of @owner may be; false: there is nothing to judge them by. */
static bool find_allowed(const Misplaced *misplaced, const LeaseOwner *owner, CpuSet *ret_cpus) {
        CpuSet cpus = CPUSET_NULL;
        bool judged = false;
        const Lease *lease;

        LIST_FOREACH(lease, &owner->leases, owner_link) {
                if (lease_is_holding(lease))
                        cpuset_or(&cpus, &lease->usable);
                judged |= is_judged(misplaced, lease);
        }

        *ret_cpus = cpus;
        return judged;
}

/*
 * The command that moves the misplaced threads, and as few others as can be; of a control group with many of
 * them, the first ones. (Its path, which its user chooses, is nothing to paste.) NULL without memory.
 */
static char *write_command(const Look *look, const Owner *owner) {
        char cpus[CPUSET_TEXT_MAX], tids[NAMED_MAX * sizeof(" 2147483647")], *text, *end = tids;
        int n;

        cpuset_format(&look->allowed, cpus, sizeof(cpus));
        if (look->n_outside == 1) {
                n = asprintf(&text, "taskset -cp %s %i", cpus, (int)look->outside[0]);
        } else if (look->n_outside <= NAMED_MAX || owner->cgroup) {
                for (unsigned i = 0; i < look->n_outside && i < NAMED_MAX; i++)
                        end += snprintf(end, (size_t)(tids + sizeof(tids) - end), " %i",
                                        (int)look->outside[i]);
                n = asprintf(&text, "for t in%s; do taskset -cp %s $t; done", tids, cpus);
        } else {
                n = asprintf(&text, "taskset -acp %s %i", cpus, (int)owner->pid);
        }

        return n < 0 ? NULL : text;
}

/* NULL without memory. */
static char *write_sentence(const Look *look, const Owner *owner) {
        _cleanup_(freep) char *command = write_command(look, owner);
        char cpus[CPUSET_TEXT_MAX], *text;

        cpuset_format(&look->outside_cpus, cpus, sizeof(cpus));
        if (!command || asprintf(&text,
                                 "%u of its %u VCPU threads may run on CPUs %s, outside of the lease: "
                                 "'%s' keeps them off",
                                 look->n_outside, look->n, cpus, command) < 0)
                return NULL;

        return text;
}

/* Takes @sentence over. */
static void tell(Manager *manager, Lease *lease, char *sentence) {
        bool news = strcmp(lease->misplacement ?: "", sentence ?: "") != 0;

        free(lease->misplacement);
        lease->misplacement = sentence;
        if (news)
                events_lease(manager, lease, sentence ? LEASE_CHANGE_MISPLACED : LEASE_CHANGE_PLACED);
}

static void judge(Misplaced *misplaced, LeaseOwner *owner) {
        const Look *look = &misplaced->look;
        Lease *lease;

        LIST_FOREACH(lease, &owner->leases, owner_link) {
                char *sentence = NULL;

                if (look->n_outside > 0 && is_judged(misplaced, lease)) {
                        sentence = write_sentence(look, owner->owner);
                        if (!sentence)
                                continue; /* what was said stands until the next time */
                }
                tell(misplaced->manager, lease, sentence);
        }
}

static int begin(Look *look, const Owner *owner) {
        return owner->cgroup ? thread_walk_begin_group(owner->cgroup, &look->walk)
                             : thread_walk_begin(owner->pid, &look->walk);
}

/* Goes on with the walk, *@max threads at most. */
static int walk(Look *look, unsigned *max) {
        CpuSet cpus;
        pid_t tid;
        int r;

        while ((r = thread_walk_next(&look->walk, max, &tid, &cpus)) == 0) {
                look->n++;
                cpuset_subtract(&cpus, &look->allowed);
                if (cpuset_is_empty(&cpus))
                        continue;
                cpuset_or(&look->outside_cpus, &cpus);
                if (look->n_outside < NAMED_MAX)
                        look->outside[look->n_outside] = tid;
                look->n_outside++;
        }

        return r;
}

static void look_end(Misplaced *misplaced) {
        thread_walk_end(&misplaced->look.walk);
        misplaced->look = (Look){0};
}

/* Looks at @owner, the first in the queue; true when done with it. */
static bool look_at(Misplaced *misplaced, LeaseOwner *owner, unsigned *max) {
        Look *look = &misplaced->look;
        unsigned part;
        CpuSet allowed;
        int r = 0;

        if (!find_allowed(misplaced, owner, &allowed)) {
                look->n_outside = 0;
                judge(misplaced, owner);
                return true;
        }

        if (!thread_walk_is_open(&look->walk)) {
                r = begin(look, owner->owner);
                look->threads_left = OWNER_THREADS_MAX;
                look->allowed = allowed;
        }
        /* One that moves its leases all the time is not worth looking at it all the time. */
        if (r != 0 || !cpuset_equal(&look->allowed, &allowed))
                return true;

        part = *max < look->threads_left ? *max : look->threads_left;
        *max -= part;
        look->threads_left -= part;
        r = walk(look, &part);
        *max += part;
        look->threads_left += part;
        if (r == THREADS_E_LATER && look->threads_left > 0)
                return false;

        /* Alive now, it was the process of this pid all along; or nobody has left the group empty. */
        if (r >= 0 && r != THREADS_E_GONE && owner_is_alive(owner->owner))
                judge(misplaced, owner);
        return true;
}

static void look(Misplaced *misplaced, unsigned max) {
        uint64_t now = manager_now_monotonic(misplaced->manager);
        LeaseOwner *owner;

        while (max > 0 && (owner = TAILQ_FIRST(&misplaced->owners))) {
                if (!thread_walk_is_open(&misplaced->look.walk) && owner->looked_usec + PERIOD_USEC > now)
                        break;
                max--; /* looking for threads takes its time, too */
                if (!look_at(misplaced, owner, &max))
                        break;

                look_end(misplaced);
                TAILQ_REMOVE(&misplaced->owners, owner, look_link);
                owner->looked_usec = now;
                TAILQ_INSERT_TAIL(&misplaced->owners, owner, look_link);
        }
}

static void arm(Misplaced *misplaced) {
        const LeaseOwner *owner = TAILQ_FIRST(&misplaced->owners);
        uint64_t soon = manager_now_monotonic(misplaced->manager) + SLICE_USEC, due;

        if (!owner) {
                (void)sd_event_source_set_enabled(misplaced->timer, SD_EVENT_OFF);
                return;
        }

        due = thread_walk_is_open(&misplaced->look.walk) ? 0 : owner->looked_usec + PERIOD_USEC;
        (void)sd_event_source_set_time(misplaced->timer, due > soon ? due : soon);
        (void)sd_event_source_set_enabled(misplaced->timer, SD_EVENT_ONESHOT);
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        look(userdata, SLICE_THREADS);
        arm(userdata);
        return 0;
}

void misplaced_look_at_all(Misplaced *misplaced) {
        LeaseOwner *owner;

        TAILQ_FOREACH(owner, &misplaced->owners, look_link)
                owner->looked_usec = 0;
        look(misplaced, START_THREADS);
        arm(misplaced);
}

void misplaced_owner_new(Manager *manager, LeaseOwner *owner) {
        Misplaced *misplaced = manager->misplaced;
        bool first = TAILQ_EMPTY(&misplaced->owners);

        owner->looked_usec = manager_now_monotonic(manager);
        TAILQ_INSERT_TAIL(&misplaced->owners, owner, look_link);
        if (first)
                arm(misplaced);
}

void misplaced_owner_gone(Manager *manager, LeaseOwner *owner) {
        Misplaced *misplaced = manager->misplaced;

        if (owner == TAILQ_FIRST(&misplaced->owners))
                look_end(misplaced);
        TAILQ_REMOVE(&misplaced->owners, owner, look_link);
        if (TAILQ_EMPTY(&misplaced->owners))
                arm(misplaced);
}

int misplaced_new(Manager *manager, Misplaced **ret_misplaced) {
        Misplaced *misplaced;
        int r;

        misplaced = calloc(1, sizeof(*misplaced));
        if (!misplaced)
                return -ENOMEM;

        misplaced->manager = manager;
        TAILQ_INIT(&misplaced->owners);
        read_present(misplaced);
        r = sd_event_add_time(manager->event, &misplaced->timer, CLOCK_MONOTONIC, UINT64_MAX, ACCURACY_USEC,
                              on_timer, misplaced);
        if (r >= 0)
                r = sd_event_source_set_enabled(misplaced->timer, SD_EVENT_OFF);
        if (r < 0) {
                misplaced_free(misplaced);
                return r;
        }

        *ret_misplaced = misplaced;
        return 0;
}

Misplaced *misplaced_free(Misplaced *misplaced) {
        if (!misplaced)
                return NULL;

        look_end(misplaced);
        sd_event_source_disable_unref(misplaced->timer);
        free(misplaced);
        return NULL;
}
