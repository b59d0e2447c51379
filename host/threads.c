/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Threads end while they are walked, and others take their ids: what cannot be read has ended, and is passed
 * over.
 */

#include "host/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/cgroup-directory.h"
#include "util/cleanup.h"
#include "util/fs.h"
#include "util/parse.h"

/* comm: 15 bytes, a newline and a NUL; the kernel's own threads have up to 63. */
#define NAME_TEXT_MAX 80U

/* Of a name in a directory, with its NUL. */
#define TID_TEXT_MAX (NAME_MAX + 1U)

/* The kernel wants room for every CPU that it could have, which may be more than we handle. */
#define AFFINITY_CPUS_MAX 65536U
#define BITS_OF_LONG      (sizeof(unsigned long) * CHAR_BIT)

/* Before the VCPU's number, and after it. */
typedef struct NamePattern {
        const char *prefix;
        const char *suffix;
} NamePattern;

static const NamePattern patterns[] = {
        {"CPU ",
         "/KVM"}, /* QEMU with debug-threads=on, as libvirt starts it. "CPU 0/TCG" is no VCPU of KVM */
        {"kvm-vcpu-", ""},   /* kvmtool */
        {"crosvm_vcpu", ""}, /* crosvm */
        {"vcpu", ""},        /* Cloud Hypervisor */
        {"fc_vcpu ", ""},    /* Firecracker */
};

bool thread_is_vcpu(const char *name) {
        for (size_t i = 0; i < ELEMENTS_OF(patterns); i++) {
                size_t n = strlen(patterns[i].prefix), digits;

                if (strncmp(name, patterns[i].prefix, n) != 0)
                        continue;
                digits = strspn(name + n, "0123456789");
                if (digits > 0 && strcmp(name + n + digits, patterns[i].suffix) == 0)
                        return true;
        }

        return false;
}

int thread_get_affinity(pid_t tid, CpuSet *ret_cpus) {
        cpu_set_t masks[AFFINITY_CPUS_MAX / CPU_SETSIZE];
        unsigned long words[CPUSET_MAX / BITS_OF_LONG];
        CpuSet cpus = CPUSET_NULL;

        if (sched_getaffinity(tid, sizeof(masks), masks) < 0)
                return errno == ESRCH ? THREADS_E_GONE : -errno;

        memcpy(words, masks, sizeof(words));
        for (size_t i = 0; i < ELEMENTS_OF(words); i++)
                cpus.words[i * BITS_OF_LONG / 64] |= (uint64_t)words[i] << (i * BITS_OF_LONG % 64);
        *ret_cpus = cpus;
        return 0;
}

int thread_walk_begin(pid_t pid, ThreadWalk *ret_walk) {
        char path[32];
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
        dir = opendir(path);
        if (!dir)
                return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : THREADS_E_GONE;

        ret_walk->dir = dir;
        return 0;
}

int thread_walk_begin_group(const Cgroup *cgroup, ThreadWalk *ret_walk) {
        _cleanup_(closep) int directory_fd = -1, fd = -1;
        struct stat st;
        FILE *file;
        int r;

        r = cgroup_open_directory(cgroup->path, &directory_fd, &st);
        if (r < 0)
                return r;
        if (r > 0 || st.st_ino != cgroup->id)
                return THREADS_E_GONE;
        fd = openat(directory_fd, "cgroup.threads", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : THREADS_E_GONE;
        file = fdopen(fd, "re");
        if (!file)
                return -errno;

        (void)steal_fd(&fd);
        ret_walk->group = file;
        return 0;
}

bool thread_walk_is_open(const ThreadWalk *walk) {
        return walk->dir || walk->group;
}

void thread_walk_end(ThreadWalk *walk) {
        if (walk->dir)
                closedir(walk->dir);
        if (walk->group)
                (void)fclose(walk->group);
        *walk = THREAD_WALK_NULL;
}

/* The id of the next thread; also "." and "..", which are none. */
static int next_tid(ThreadWalk *walk, char text[static TID_TEXT_MAX]) {
        struct dirent *entry;
        int r;

        if (walk->group) {
                errno = 0;
                if (!fgets(text, TID_TEXT_MAX, walk->group))
                        return errno == 0 || errno == ENODEV ? THREADS_E_END
                                                             : -errno; /* removed: all have left */
                text[strcspn(text, "\n")] = '\0';
                return 0;
        }

        r = fs_readdir(walk->dir, &entry);
        if (r < 0)
                return r;
        if (!entry)
                return THREADS_E_END;

        (void)snprintf(text, TID_TEXT_MAX, "%s", entry->d_name);
        return 0;
}

/* THREADS_E_GONE: it has ended, or runs no VCPU. */
static int look(const ThreadWalk *walk, const char *tid_text, pid_t *ret_tid, CpuSet *ret_cpus) {
        char path[32], name[NAME_TEXT_MAX];
        uint64_t tid;
        size_t n;
        int r;

        if (parse_u64(tid_text, INT_MAX, &tid) || tid == 0)
                return THREADS_E_GONE; /* "." and ".." */

        (void)snprintf(path, sizeof(path), walk->group ? "/proc/%d/comm" : "%d/comm", (int)tid);
        r = fs_read_line(walk->group ? AT_FDCWD : dirfd(walk->dir), path, name, sizeof(name), &n);
        if (r < 0)
                return r;
        if (r > 0 || !thread_is_vcpu(name))
                return THREADS_E_GONE;
        r = thread_get_affinity((pid_t)tid, ret_cpus);
        if (r)
                return r;

        *ret_tid = (pid_t)tid;
        return 0;
}

int thread_walk_next(ThreadWalk *walk, unsigned *max, pid_t *ret_tid, CpuSet *ret_cpus) {
        char text[TID_TEXT_MAX];
        int r;

        while (*max > 0) {
                r = next_tid(walk, text);
                if (r != 0)
                        return r;

                (*max)--;
                r = look(walk, text, ret_tid, ret_cpus);
                if (r != THREADS_E_GONE)
                        return r;
        }

        return THREADS_E_LATER;
}
