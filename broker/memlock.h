/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the broker does about RLIMIT_MEMLOCK of one process that has leases. The base is the limit that the
 * process had before its first lease; with leases it is the base plus what they are charged, however much the
 * process has locked; after the last one it is the base again.
 *
 * A limit that somebody else changes meanwhile (the process itself, libvirt) is left alone until the process
 * has no lease any more. It is never taken for a new base: a process that changes its limit, or locks memory,
 * while it has a lease would get a little more each time. For the same reason what the process did with it
 * does not save a limit that was raised for its leases: after the last one, hard stands no higher than the
 * base's, unless somebody with the right to has raised it above what was set here.
 *
 * The caller says each time whether limits are managed (it may have been configured otherwise since), and
 * which process it is.
 */

#include <stdbool.h>
#include <stdint.h>

#include "host/memlock.h"

/* As the interface has them; its comments say what they mean. */
typedef enum MemlockState {
        MEMLOCK_STATE_UNMANAGED,
        MEMLOCK_STATE_APPLIED,
        MEMLOCK_STATE_ALREADY_ENOUGH,
        MEMLOCK_STATE_UNLIMITED,
        MEMLOCK_STATE_NO_CAPABILITY,
        _MEMLOCK_STATE_MAX,
} MemlockState;

const char *memlock_state_to_string(MemlockState state);

/* What outlives the broker. */
typedef struct MemlockBase {
        MemlockLimit limit;
        bool changed; /* somebody else has changed the limit since */
} MemlockBase;

/* What a call found out beside. */
typedef enum MemlockNews {
        MEMLOCK_NEWS_NONE,
        MEMLOCK_NEWS_CHANGED, /* somebody else has changed the limit: the base is to be written down anew */
        MEMLOCK_NEWS_STUCK,   /* the last lease is gone, and the limit that was raised for it stays */
} MemlockNews;

typedef struct Memlock {
        MemlockState state;
        uint64_t bytes;    /* that its leases are charged */
        bool known;        /* the base is */
        bool denied;       /* the base could not be read */
        bool lost;         /* the base was not written down, or not as it can be */
        bool resumes;      /* its leases come from an earlier broker, and memlock_resume() is due */
        MemlockBase base;  /* if known */
        MemlockLimit ours; /* as it was set last, or the base */
} Memlock;

#define MEMLOCK_NULL ((Memlock){0})

/* A lease will be charged to @process: if it is the first, its base is what is there now. */
void memlock_begin(Memlock *memlock, const Owner *process, bool manage);

/* Its leases are charged @bytes more, or fewer, and the limit follows. */
MemlockNews memlock_charge(Memlock *memlock, const Owner *process, bool manage, uint64_t bytes);
MemlockNews memlock_refund(Memlock *memlock, const Owner *process, bool manage, uint64_t bytes);

/*
 * A lease of an earlier broker is charged @bytes; @base: as it was written down, or NULL: if no lease of the
 * process has one, or two have different ones, what the limit was is not known, and it is left alone.
 */
void memlock_restore(Memlock *memlock, const MemlockBase *base, uint64_t bytes);
/*
 * After all of them. What stands between the base and the base with what they are charged has been set by
 * that broker; anything else by somebody else.
 */
MemlockNews memlock_resume(Memlock *memlock, const Owner *process, bool manage);
