/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From the best hook down, each is tried: its programs are loaded, attached, and for LSM seen to refuse an
 * event. Maps and links of an earlier process are taken over where they were made of the very same programs
 * (their names carry a checksum of these), so that what is refused stays refused meanwhile; of other
 * programs, they are left to whoever keeps them, who drops them when the new ones are in force.
 */

#include "bpf/arbiter-load.h"

#include <asm/unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/kept.h"
#include "bpf/shared.h"
#include "bpf/spe-arbiter.skel.h"
#include "util/hash.h"

/* perf_event_open() as 32-bit programs call it on x86 and arm; the other architecture has no such call, or
 * one that gives no descriptor of an event. */
#define PERF_EVENT_OPEN_IA32 336
#define PERF_EVENT_OPEN_ARM  364

/* Newer architectures have dup3() alone. */
#ifndef __NR_dup2
#define __NR_dup2 (-1)
#endif

static const char *const part_names[_ARBITER_PART_MAX] = {
        [ARBITER_PART_SESSIONS] = "sessions",   [ARBITER_PART_PMUS] = "pmus",
        [ARBITER_PART_OWNERS] = "owners",       [ARBITER_PART_HOLDERS] = "holders",
        [ARBITER_PART_DOORBELL] = "doorbell",   [ARBITER_PART_CONTROL] = "control",
        [ARBITER_PART_ALLOCATED] = "allocated", [ARBITER_PART_FREEING] = "freeing",
        [ARBITER_PART_FREED] = "freed",         [ARBITER_PART_REFUSE] = "refuse",
        [ARBITER_PART_RETURNING] = "returning",
};

static const bool hook_has_link[_ARBITER_HOOK_MAX][_ARBITER_PART_MAX] = {
        [ARBITER_HOOK_TRACEPOINTS] = {[ARBITER_PART_RETURNING] = true},
        [ARBITER_HOOK_TRAMPOLINES] =
                {[ARBITER_PART_ALLOCATED] = true, [ARBITER_PART_FREEING] = true, [ARBITER_PART_FREED] = true},
        [ARBITER_HOOK_LSM] = {[ARBITER_PART_ALLOCATED] = true,
                              [ARBITER_PART_FREEING] = true,
                              [ARBITER_PART_FREED] = true,
                              [ARBITER_PART_REFUSE] = true},
};

static const BpfSubject subject = {.watched = "perf events", .refused = "an event in", .opens_events = true};

static struct bpf_map *map_of(const struct spe_arbiter *programs, ArbiterPart part) {
        struct bpf_map *const maps[_ARBITER_PART_MAPS] = {
                [ARBITER_PART_SESSIONS] = programs->maps.sessions,
                [ARBITER_PART_PMUS] = programs->maps.pmus,
                [ARBITER_PART_OWNERS] = programs->maps.owners,
                [ARBITER_PART_HOLDERS] = programs->maps.holders,
                [ARBITER_PART_DOORBELL] = programs->maps.doorbell,
                [ARBITER_PART_CONTROL] = programs->maps.bss,
        };

        return maps[part];
}

static struct bpf_program *program_of(const struct spe_arbiter *programs, ArbiterPart part) {
        switch (part) {
        case ARBITER_PART_ALLOCATED:
                return programs->progs.allocated;
        case ARBITER_PART_FREEING:
                return programs->progs.freeing;
        case ARBITER_PART_FREED:
                return programs->progs.freed;
        case ARBITER_PART_REFUSE:
                return programs->progs.refuse;
        default:
                return programs->progs.returning;
        }
}

/* Names that fit these programs alone: kept for others, maps may be of another layout. */
static void name_parts(Arbiter *arbiter) {
        size_t n;
        const void *bytes = spe_arbiter__elf_bytes(&n);
        uint64_t checksum = hash_add(HASH_INIT, bytes, n);

        for (size_t i = 0; i < _ARBITER_PART_MAX; i++)
                kept_name(arbiter->names[i], "arbiter", checksum, part_names[i]);
}

static void adopt(Arbiter *arbiter, NamedFd *kept, size_t n_kept) {
        for (size_t i = 0; i < n_kept; i++)
                for (size_t part = 0; part < _ARBITER_PART_MAX; part++)
                        if (kept[i].fd >= 0 && arbiter->fds[part] < 0 &&
                            strcmp(kept[i].name, arbiter->names[part]) == 0)
                                arbiter->fds[part] = steal_fd(&kept[i].fd);
}

static void close_part(Arbiter *arbiter, ArbiterPart part) {
        if (arbiter->fds[part] >= 0)
                close(steal_fd(&arbiter->fds[part]));
}

/*
 * A name is no proof. The maps are taken over together or not at all: then nothing that is kept is of use.
 */
static bool has_all_maps(Arbiter *arbiter, const struct spe_arbiter *programs) {
        bool all = true;

        for (ArbiterPart part = 0; part < _ARBITER_PART_MAPS; part++)
                all = all && kept_is_map(arbiter->fds[part], map_of(programs, part));
        for (ArbiterPart part = _ARBITER_PART_MAPS; part < _ARBITER_PART_MAX; part++)
                if (!kept_is_link(arbiter->fds[part],
                                  part == ARBITER_PART_RETURNING ? NULL : program_of(programs, part)))
                        close_part(arbiter, part);
        if (!all)
                for (size_t part = 0; part < _ARBITER_PART_MAX; part++)
                        close_part(arbiter, part);

        return all;
}

static void close_maps(Arbiter *arbiter) {
        for (ArbiterPart part = 0; part < _ARBITER_PART_MAPS; part++)
                close_part(arbiter, part);
}

static void set_system_calls(struct spe_arbiter *programs) {
        static const __s64 opening[ARBITER_OPENING_CALLS] = {__NR_perf_event_open, PERF_EVENT_OPEN_IA32,
                                                             PERF_EVENT_OPEN_ARM};
        static const __s64 closing[ARBITER_CLOSING_CALLS] = {__NR_close, __NR_close_range, __NR_dup2,
                                                             __NR_dup3,  __NR_execve,      __NR_execveat};

        memcpy(programs->rodata->opening_calls, opening, sizeof(opening));
        memcpy(programs->rodata->closing_calls, closing, sizeof(closing));
}

static int load_programs(Arbiter *arbiter, ArbiterHook hook) {
        struct spe_arbiter *programs = spe_arbiter__open();
        int r;

        if (!programs)
                return -errno;

        arbiter->programs = programs;
        for (ArbiterPart part = _ARBITER_PART_MAPS; part < _ARBITER_PART_MAX; part++)
                if (part != ARBITER_PART_RETURNING && !hook_has_link[hook][part])
                        (void)bpf_program__set_autoload(program_of(programs, part), false);
        set_system_calls(programs);
        if (has_all_maps(arbiter, programs))
                for (ArbiterPart part = 0; part < _ARBITER_PART_MAPS; part++) {
                        r = bpf_map__reuse_fd(map_of(programs, part), arbiter->fds[part]);
                        if (r < 0)
                                return r;
                }

        r = spe_arbiter__load(programs);
        if (r < 0)
                return r;

        arbiter->control = &programs->bss->control;
        return 0;
}

static void drop_programs(Arbiter *arbiter) {
        if (arbiter->programs)
                spe_arbiter__destroy(arbiter->programs);
        arbiter->programs = NULL;
        arbiter->control = NULL;
}

static int attach_part(Arbiter *arbiter, ArbiterPart part) {
        struct bpf_program *program = program_of(arbiter->programs, part);
        int fd;

        if (arbiter->fds[part] >= 0)
                return 0;

        if (part == ARBITER_PART_RETURNING)
                fd = bpf_raw_tracepoint_open("sys_exit", bpf_program__fd(program));
        else
                fd = bpf_link_create(bpf_program__fd(program), /* target_fd= */ 0,
                                     bpf_program__expected_attach_type(program), /* opts= */ NULL);
        if (fd < 0)
                return fd;

        arbiter->fds[part] = fd;
        return 0;
}

static void detach_all_but(Arbiter *arbiter, ArbiterHook hook) {
        for (ArbiterPart part = _ARBITER_PART_MAPS; part < _ARBITER_PART_MAX; part++)
                if (!hook_has_link[hook][part])
                        close_part(arbiter, part);
}

static int attach_hook(Arbiter *arbiter, ArbiterHook hook) {
        int r;

        detach_all_but(arbiter, hook);
        for (ArbiterPart part = _ARBITER_PART_MAPS; part < _ARBITER_PART_MAX; part++)
                if (hook_has_link[hook][part]) {
                        r = attach_part(arbiter, part);
                        if (r < 0)
                                return r;
                }
        if (hook == ARBITER_HOOK_LSM) {
                r = arbiter_prove_refusal(arbiter);
                if (r)
                        return r;
        }
        shared_store(&arbiter->control->refuses, hook == ARBITER_HOOK_LSM);
        shared_store(&arbiter->control->hinted, hook == ARBITER_HOOK_TRACEPOINTS);
        return 0;
}

int arbiter_map(const Arbiter *arbiter, ArbiterPart part) {
        return bpf_map__fd(map_of(arbiter->programs, part));
}

int arbiter_watch_returns(Arbiter *arbiter) {
        return attach_part(arbiter, ARBITER_PART_RETURNING);
}

void arbiter_unwatch_returns(Arbiter *arbiter) {
        detach_all_but(arbiter, arbiter->hook);
}

int arbiter_load(Arbiter *arbiter, ArbiterHook highest, NamedFd *kept, size_t n_kept) {
        int r = 0;

        name_parts(arbiter);
        adopt(arbiter, kept, n_kept);
        for (ArbiterHook hook = highest; hook > ARBITER_HOOK_NONE; hook--) {
                bool loaded = arbiter->control;

                if (!loaded) {
                        r = load_programs(arbiter, hook);
                        loaded = r == 0;
                }
                if (loaded)
                        r = arbiter_teach_iterator(arbiter);
                if (r == 0)
                        r = attach_hook(arbiter, hook);
                if (r == 0) {
                        arbiter->hook = hook;
                        close_maps(arbiter); /* libbpf has its own descriptors of them */
                        return 0;
                }
                bpf_explain(&subject, loaded, r, &arbiter->explanation);
                if (!loaded)
                        drop_programs(arbiter);
        }

        arbiter_unload(arbiter);
        return 0;
}

void arbiter_unload(Arbiter *arbiter) {
        drop_programs(arbiter);
        for (ArbiterPart part = 0; part < _ARBITER_PART_MAX; part++)
                close_part(arbiter, part);
}
