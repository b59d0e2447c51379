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
#include <fcntl.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf/probe.h"
#include "bpf/spe-arbiter.skel.h"
#include "util/parse.h"

#define LSM_LIST_PATH      "/sys/kernel/security/lsm"
#define LOCKDOWN_PATH      "/sys/kernel/security/lockdown"
#define PARANOID_PATH      "/proc/sys/kernel/perf_event_paranoid"
#define PARANOID_MAX_USUAL 2

/* perf_event_open() as 32-bit programs call it on x86 and arm; the other architecture has no such call, or
 * one that gives no descriptor of an event. */
#define PERF_EVENT_OPEN_IA32 336
#define PERF_EVENT_OPEN_ARM  364

/* Newer architectures have dup3() alone. */
#ifndef __NR_dup2
#define __NR_dup2 (-1)
#endif

enum {
        _LOAD_E_SUCCESS,
        LOAD_E_UNPROVED, /* an LSM program is attached, and the kernel does not do as it says */
};

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

/* Names that fit these programs alone (FNV-1a): kept for others, maps may be of another layout. */
static void name_parts(Arbiter *arbiter) {
        uint64_t checksum = 0xcbf29ce484222325U;
        size_t n;
        const unsigned char *bytes = spe_arbiter__elf_bytes(&n);

        for (size_t i = 0; i < n; i++)
                checksum = (checksum ^ bytes[i]) * 0x100000001b3U;
        for (size_t i = 0; i < _ARBITER_PART_MAX; i++)
                (void)snprintf(arbiter->names[i], sizeof(arbiter->names[i]), "arbiter-%016llx-%s",
                               (unsigned long long)checksum, part_names[i]);
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

/* Whether @fd is an object of that kind of BPF's, as the kernel calls its files. */
static bool is_of_kind(int fd, const char *kind) {
        char path[sizeof("/proc/self/fd/-2147483648")], target[64];
        ssize_t n;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0)
                return false;
        target[n] = '\0';
        return strcmp(target, kind) == 0;
}

static bool is_map(int fd, const struct bpf_map *map) {
        struct bpf_map_info info = {0};
        __u32 size = sizeof(info);

        return fd >= 0 && is_of_kind(fd, "anon_inode:bpf-map") &&
               bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == bpf_map__type(map) &&
               info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
               info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map);
}

static bool is_link(int fd, ArbiterPart part, const struct bpf_program *program) {
        struct bpf_link_info info = {0};
        __u32 size = sizeof(info);

        if (fd < 0 || !is_of_kind(fd, "anon_inode:bpf_link") || bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
                return false;

        if (part == ARBITER_PART_RETURNING)
                return info.type == BPF_LINK_TYPE_RAW_TRACEPOINT;
        return info.type == BPF_LINK_TYPE_TRACING &&
               info.tracing.attach_type == (__u32)bpf_program__expected_attach_type(program);
}

/*
 * A name is no proof. The maps are taken over together or not at all: then nothing that is kept is of use.
 */
static bool has_all_maps(Arbiter *arbiter, const struct spe_arbiter *programs) {
        bool all = true;

        for (ArbiterPart part = 0; part < _ARBITER_PART_MAPS; part++)
                all = all && is_map(arbiter->fds[part], map_of(programs, part));
        for (ArbiterPart part = _ARBITER_PART_MAPS; part < _ARBITER_PART_MAX; part++)
                if (!is_link(arbiter->fds[part], part, program_of(programs, part)))
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

/* An event of this process that counts nothing, marked with a number that nobody can guess. */
static int open_marked(__u64 mark) {
        struct perf_event_attr attributes = {
                .type = PERF_TYPE_SOFTWARE,
                .size = sizeof(attributes),
                .config = PERF_COUNT_SW_DUMMY,
                .config1 = mark,
                .disabled = 1,
                .exclude_kernel = 1,
        };
        long fd = syscall(SYS_perf_event_open, &attributes, /* pid= */ 0, /* cpu= */ -1, /* group_fd= */ -1,
                          PERF_FLAG_FD_CLOEXEC);

        return fd < 0 ? -errno : (int)fd;
}

static int make_mark(__u64 *ret_mark) {
        __u64 mark = 0;

        while (mark == 0)
                if (getrandom(&mark, sizeof(mark), 0) != sizeof(mark))
                        return -errno;
        *ret_mark = mark;
        return 0;
}

/* Whether the kernel does what an LSM program says. */
static int prove_refusal(Arbiter *arbiter) {
        ArbiterControl *control = arbiter->control;
        _cleanup_(closep) int fd = -1;
        __u64 mark = 0;
        int r;

        r = make_mark(&mark);
        if (r < 0)
                return r;

        __atomic_store_n(&control->probed, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&control->probe_freed, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&control->probe, mark, __ATOMIC_SEQ_CST);
        fd = open_marked(mark);
        __atomic_store_n(&control->probe, 0, __ATOMIC_SEQ_CST);
        if (fd != -EBUSY || __atomic_load_n(&control->probed, __ATOMIC_SEQ_CST) == 0)
                return LOAD_E_UNPROVED;

        __atomic_store_n(&control->exact, !__atomic_load_n(&control->probe_freed, __ATOMIC_SEQ_CST),
                         __ATOMIC_SEQ_CST);
        return 0;
}

/* Shows the iterator a file of a perf event, to know others by, and by its process the broker. */
static int teach_iterator(Arbiter *arbiter) {
        ArbiterControl *control = arbiter->control;
        _cleanup_(closep) int fd = -1;
        __u64 mark = 0;
        int r;

        r = make_mark(&mark);
        if (r < 0)
                return r;
        fd = open_marked(mark);
        if (fd < 0)
                return fd;

        __atomic_store_n(&control->lesson, mark, __ATOMIC_SEQ_CST);
        r = arbiter_run_iterator(arbiter, getpid());
        __atomic_store_n(&control->lesson, 0, __ATOMIC_SEQ_CST);
        if (r < 0)
                return r;

        return __atomic_load_n(&control->file_operations, __ATOMIC_SEQ_CST) != 0 ? 0 : -ENODATA;
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
                r = prove_refusal(arbiter);
                if (r)
                        return r;
        }
        __atomic_store_n(&arbiter->control->refuses, hook == ARBITER_HOOK_LSM, __ATOMIC_SEQ_CST);
        __atomic_store_n(&arbiter->control->hinted, hook == ARBITER_HOOK_TRACEPOINTS, __ATOMIC_SEQ_CST);
        return 0;
}

/* Reads a short line of the kernel's. Empty: there is none. */
static void read_line(const char *path, char *line, size_t size) {
        _cleanup_(fclosep) FILE *file = fopen(path, "re");

        line[0] = '\0';
        if (file && fgets(line, (int)size, file))
                line[strcspn(line, "\n")] = '\0';
}

/* Whether a list of words with commas in between has @word. */
static bool list_has(const char *list, const char *word) {
        size_t n = strlen(word);

        for (const char *at = list; at; at = strchr(at, ',')) {
                at += *at == ',';
                if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0'))
                        return true;
        }
        return false;
}

static void explain_unproved(Arbiter *arbiter) {
        char list[128];

        read_line(LSM_LIST_PATH, list, sizeof(list));
        if (list_has(list, "bpf")) {
                (void)snprintf(
                        arbiter->reason, sizeof(arbiter->reason),
                        "The kernel lets an event in that a BPF program of type LSM refuses, as tried.");
                return;
        }
        (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                       "The kernel does not call BPF programs of type LSM: bpf is not among the active "
                       "security modules (%s).",
                       list[0] ? list : "their list cannot be read");
        arbiter->advice = "Add bpf to the list in lsm= on the kernel's command line, and boot anew.";
}

/* Kernels of Debian's and others' know more than the 2 of all kernels, and then do not ask for CAP_PERFMON.
 */
static bool explain_paranoid(Arbiter *arbiter) {
        char line[16];
        uint64_t level;

        read_line(PARANOID_PATH, line, sizeof(line));
        if (parse_u64(line, INT_MAX, &level) != 0 || level <= PARANOID_MAX_USUAL)
                return false;

        (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                       "Only CAP_SYS_ADMIN may open perf events here, which the broker needs to see its BPF "
                       "programs at work (kernel.perf_event_paranoid is %s).",
                       line);
        arbiter->advice = "sysctl kernel.perf_event_paranoid=2";
        return true;
}

/* Why a hook could not be had: the first, and thus the best, that was tried. */
static void explain(Arbiter *arbiter, bool loaded, int error) {
        char lockdown[64];
        BpfProbe probe;

        if (arbiter->reason[0])
                return;
        if (error == LOAD_E_UNPROVED) {
                explain_unproved(arbiter);
                return;
        }

        bpf_probe(&probe);
        if (probe.result != BPF_PROBE_ATTACHES) {
                (void)snprintf(arbiter->reason, sizeof(arbiter->reason), "%s", probe.reason);
                arbiter->advice = probe.advice;
                return;
        }
        read_line(LOCKDOWN_PATH, lockdown, sizeof(lockdown));
        if (strstr(lockdown, "[confidentiality]")) {
                (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                               "The kernel is locked down for confidentiality, so BPF programs may not read "
                               "its memory.");
                arbiter->advice = "Boot with lockdown=integrity, or without lockdown.";
                return;
        }
        if (loaded && error == -EACCES && explain_paranoid(arbiter))
                return;
        (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                       "BPF programs that watch perf events do not %s: %s.", loaded ? "attach" : "load",
                       strerror(-error));
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
                        r = teach_iterator(arbiter);
                if (r == 0)
                        r = attach_hook(arbiter, hook);
                if (r == 0) {
                        arbiter->hook = hook;
                        close_maps(arbiter); /* libbpf has its own descriptors of them */
                        return 0;
                }
                explain(arbiter, loaded, r);
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

/* One pass over what the iterator has to say, which is nothing: what it finds, it enters into the table. */
static int read_to_end(int fd) {
        char byte;

        for (;;) {
                ssize_t n = read(fd, &byte, sizeof(byte));

                if (n == 0)
                        return 0;
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return -errno;
        }
}

int arbiter_run_iterator(Arbiter *arbiter, pid_t process) {
        union bpf_iter_link_info which = {.task = {.pid = (__u32)process}};
        LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = &which, .iter_info_len = sizeof(which));
        _cleanup_(closep) int link = -1, fd = -1;
        int program = bpf_program__fd(arbiter->programs->progs.look);

        link = bpf_link_create(program, /* target_fd= */ 0, BPF_TRACE_ITER, process != 0 ? &options : NULL);
        if (link < 0)
                return link;
        fd = bpf_iter_create(link);
        if (fd < 0)
                return fd;

        return read_to_end(fd);
}
