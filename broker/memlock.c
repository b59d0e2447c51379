/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The limit is looked at before it is set, each time: what is not as it was set last is somebody else's.
 */

#include "broker/memlock.h"

#include <assert.h>
#include <stddef.h>

/* A process that changes its own limit all the time cannot keep it raised: so often is it looked at, and then
 * it is set, whatever is there. */
#define GIVE_BACK_ATTEMPTS 8U

static const char *const states[_MEMLOCK_STATE_MAX] = {
        [MEMLOCK_STATE_UNMANAGED] = "unmanaged",           [MEMLOCK_STATE_APPLIED] = "applied",
        [MEMLOCK_STATE_ALREADY_ENOUGH] = "already_enough", [MEMLOCK_STATE_UNLIMITED] = "unlimited",
        [MEMLOCK_STATE_NO_CAPABILITY] = "no_capability",
};

const char *memlock_state_to_string(MemlockState state) {
        return states[state];
}

static uint64_t lesser(uint64_t a, uint64_t b) {
        return a < b ? a : b;
}

/* What the limit is to be with what its leases are charged. */
static MemlockLimit get_wanted(const Memlock *memlock) {
        MemlockLimit wanted = memlock->base.limit;

        if (wanted.soft == MEMLOCK_UNLIMITED)
                return wanted;
        if (__builtin_add_overflow(wanted.soft, memlock->bytes, &wanted.soft) ||
            wanted.soft == MEMLOCK_UNLIMITED)
                wanted.soft = MEMLOCK_UNLIMITED - 1;
        if (wanted.hard < wanted.soft)
                wanted.hard = wanted.soft;
        return wanted;
}

void memlock_begin(Memlock *memlock, const Owner *process, bool manage) {
        int r;

        if (memlock->bytes > 0)
                return;

        *memlock = MEMLOCK_NULL;
        if (!manage)
                return;

        r = memlock_limit_read(process, &memlock->base.limit);
        memlock->known = r == 0;
        memlock->denied = r == MEMLOCK_E_NOT_PERMITTED;
        memlock->ours = memlock->base.limit;
}

/* Of a limit that is left alone. */
static void judge(Memlock *memlock, const MemlockLimit *now, const MemlockLimit *wanted) {
        memlock->state = now->soft >= wanted->soft ? MEMLOCK_STATE_ALREADY_ENOUGH : MEMLOCK_STATE_UNMANAGED;
}

/* Sets what is wanted where the limit is @now. */
static int set(Memlock *memlock, const Owner *process, const MemlockLimit *now, const MemlockLimit *wanted) {
        int r = memlock_limit_equal(now, wanted) ? 0 : memlock_limit_replace(process, now, wanted);

        if (r == MEMLOCK_E_NOT_PERMITTED)
                memlock->state = MEMLOCK_STATE_NO_CAPABILITY;
        if (r == 0) {
                memlock->ours = *wanted;
                memlock->state =
                        wanted->soft == MEMLOCK_UNLIMITED ? MEMLOCK_STATE_UNLIMITED : MEMLOCK_STATE_APPLIED;
        }
        return r;
}

/* Has the limit follow what is charged. */
static MemlockNews follow(Memlock *memlock, const Owner *process, bool manage) {
        bool was_changed = memlock->base.changed;
        MemlockLimit wanted, now;
        int r;

        memlock->state = manage && memlock->denied ? MEMLOCK_STATE_NO_CAPABILITY : MEMLOCK_STATE_UNMANAGED;
        if (!manage || !memlock->known)
                return MEMLOCK_NEWS_NONE;

        r = memlock_limit_read(process, &now);
        if (r == MEMLOCK_E_NOT_PERMITTED)
                memlock->state = MEMLOCK_STATE_NO_CAPABILITY;
        if (r)
                return MEMLOCK_NEWS_NONE; /* one that is gone needs nothing */

        wanted = get_wanted(memlock);
        if (!memlock_limit_equal(&now, &memlock->ours))
                memlock->base.changed = true;
        else if (!was_changed && set(memlock, process, &now, &wanted) == MEMLOCK_E_CHANGED)
                memlock->base.changed = memlock_limit_read(process, &now) == 0;
        if (memlock->base.changed)
                judge(memlock, &now, &wanted);

        return memlock->base.changed != was_changed ? MEMLOCK_NEWS_CHANGED : MEMLOCK_NEWS_NONE;
}

/* What is left of the limit @now when there are no leases any more. */
static MemlockLimit get_rest(const Memlock *memlock, const MemlockLimit *now) {
        const MemlockLimit *base = &memlock->base.limit;
        MemlockLimit rest = *now;

        if (!memlock->base.changed && memlock_limit_equal(now, &memlock->ours))
                return *base;
        /* Who has raised it above what was set here may do that. Others could just lower it, and still have
         * what they were given with the leases: */
        if (now->hard <= memlock->ours.hard) {
                rest.hard = lesser(now->hard, base->hard);
                rest.soft = lesser(now->soft, rest.hard);
        }
        return rest;
}

static MemlockNews give_back(Memlock *memlock, const Owner *process) {
        MemlockLimit now, rest;
        int r = 0;

        if (!memlock->known)
                return MEMLOCK_NEWS_NONE;

        for (unsigned i = 0; i < GIVE_BACK_ATTEMPTS; i++) {
                r = memlock_limit_read(process, &now);
                if (r)
                        break;
                rest = get_rest(memlock, &now);
                if (memlock_limit_equal(&now, &rest))
                        break;
                r = memlock_limit_replace(process, i + 1 < GIVE_BACK_ATTEMPTS ? &now : NULL, &rest);
                if (r != MEMLOCK_E_CHANGED)
                        break;
        }

        return r == MEMLOCK_E_NOT_PERMITTED && !memlock_limit_equal(&memlock->ours, &memlock->base.limit)
                       ? MEMLOCK_NEWS_STUCK
                       : MEMLOCK_NEWS_NONE;
}

MemlockNews memlock_charge(Memlock *memlock, const Owner *process, bool manage, uint64_t bytes) {
        memlock->bytes += bytes;
        return follow(memlock, process, manage);
}

MemlockNews memlock_refund(Memlock *memlock, const Owner *process, bool manage, uint64_t bytes) {
        assert(memlock->bytes >= bytes);

        memlock->bytes -= bytes;
        return memlock->bytes > 0 ? follow(memlock, process, manage) : give_back(memlock, process);
}

void memlock_restore(Memlock *memlock, const MemlockBase *base, uint64_t bytes) {
        memlock->bytes += bytes;
        memlock->resumes = true;
        if (!base || memlock->lost)
                return;

        memlock->lost = memlock->known && !memlock_limit_equal(&memlock->base.limit, &base->limit);
        memlock->known = !memlock->lost;
        memlock->base.limit = base->limit;
        memlock->base.changed = memlock->base.changed || base->changed;
}

MemlockNews memlock_resume(Memlock *memlock, const Owner *process, bool manage) {
        const MemlockLimit *base = &memlock->base.limit;
        bool was_changed = memlock->base.changed;
        MemlockLimit now;
        MemlockNews news;

        memlock->resumes = false;
        memlock->ours = get_wanted(memlock);
        if (memlock->known && memlock_limit_read(process, &now) == 0) {
                if (now.soft >= base->soft && now.soft <= memlock->ours.soft &&
                    now.hard == (now.soft > base->hard ? now.soft : base->hard))
                        memlock->ours = now;
                else
                        memlock->base.changed = true;
        }

        news = follow(memlock, process, manage);
        return memlock->base.changed != was_changed ? MEMLOCK_NEWS_CHANGED : news;
}
