/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A process, held by pidfd. A pid can mean another process at any time, a pidfd cannot; so everything that
 * has to be asked by pid is asked between two looks at the pidfd: the process was alive after the answers,
 * hence the pid was its own all along.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <systemd/sd-login.h>

#include "host/owner.h"
#include "host/threads.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fs.h"
#include "util/parse.h"

/* /proc/PID/stat: some fifty numbers and a command of at most 64 bytes. */
#define STAT_TEXT_MAX 4096U
/* /proc/self/fdinfo/FD of a pidfd: seven short lines. */
#define FDINFO_TEXT_MAX 1024U
/* In stat, fields are numbered from 1; the one after the command, the state, is number 3. */
#define STAT_FIELD_STATE      3U
#define STAT_FIELD_START_TIME 22U

typedef struct Uids {
        uid_t real;
        uid_t effective;
} Uids;

static int open_pid(pid_t pid, int *ret_pidfd) {
        int fd;

        if (pid <= 0)
                return OWNER_E_NO_PROCESS;

        fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (fd >= 0) {
                *ret_pidfd = fd;
                return 0;
        }
        switch (errno) {
        case ESRCH:
        case EINVAL: /* a thread, to older kernels */
        case ENOENT: /* a thread, to newer ones */
                return OWNER_E_NO_PROCESS;
        default:
                return -errno;
        }
}

/* 0 while it lives, OWNER_E_NO_PROCESS, or -errno: it could not be asked. */
static int ask_pidfd(int pidfd) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        int r;

        do
                r = poll(&p, 1, 0);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : r == 0 ? 0 : OWNER_E_NO_PROCESS;
}

/* "PID (COMMAND) STATE ...": the command may hold anything, ')' and newlines too, the rest only numbers. */
static int parse_stat(const char *text, char command[static 17], uint64_t *ret_start_time) {
        const char *open = strchr(text, '('), *close = strrchr(text, ')');
        char number[24];
        size_t n;

        if (!open || !close || close < open || close[1] != ' ')
                return OWNER_E_NO_PROCESS;

        text = close + 2;
        for (unsigned field = STAT_FIELD_STATE; field < STAT_FIELD_START_TIME; field++) {
                text = strchr(text, ' ');
                if (!text)
                        return OWNER_E_NO_PROCESS;
                text++;
        }
        n = strcspn(text, " \n");
        if (n >= sizeof(number))
                return OWNER_E_NO_PROCESS;
        memcpy(number, text, n);
        number[n] = '\0';
        if (parse_u64(number, UINT64_MAX, ret_start_time))
                return OWNER_E_NO_PROCESS;

        n = (size_t)(close - open - 1);
        if (n > 16)
                n = 16;
        memcpy(command, open + 1, n);
        command[n] = '\0';
        return 0;
}

/* "Uid:\tREAL\tEFFECTIVE\t...". The command's line before it is escaped, so no name can forge this one. */
static int parse_status(const char *text, Uids *ret_uids) {
        const char *line = strstr(text, "\nUid:\t");
        unsigned long long real, effective;

        /* Written by the kernel; the range is checked below. NOLINTNEXTLINE(cert-err34-c) */
        if (!line || sscanf(line, "\nUid:\t%llu\t%llu", &real, &effective) != 2)
                return OWNER_E_NO_PROCESS;
        if (real > UINT32_MAX || effective > UINT32_MAX)
                return OWNER_E_NO_PROCESS;

        *ret_uids = (Uids){.real = (uid_t)real, .effective = (uid_t)effective};
        return 0;
}

/*
 * Start time, command and users. What cannot be read makes it no process: it died meanwhile, or /proc hides
 * it from us, and then nothing could tell it from its successor.
 */
static int read_process(Owner *owner, Uids *ret_uids) {
        _cleanup_(closep) int fd = -1;
        _cleanup_(freep) char *status = NULL;
        char path[32], stat[STAT_TEXT_MAX];
        size_t n;
        int r;

        (void)snprintf(path, sizeof(path), "/proc/%d", owner->pid);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : OWNER_E_NO_PROCESS;

        r = fs_read(fd, "stat", stat, sizeof(stat), &n);
        if (r == 0)
                r = parse_stat(stat, owner->command, &owner->start_time);
        if (r)
                return r < 0 ? r : OWNER_E_NO_PROCESS;

        r = fs_read_all(fd, "status", OWNER_STATUS_MAX, &status, &n);
        if (r == 0)
                r = parse_status(status, ret_uids);
        if (r)
                return r < 0 ? r : OWNER_E_NO_PROCESS;
        owner->uid = ret_uids->real;
        return 0;
}

/* Both are often not there: no systemd, no machine. */
static int read_names(Owner *owner) {
        if (sd_pid_get_unit(owner->pid, &owner->unit) == -ENOMEM ||
            sd_pid_get_machine_name(owner->pid, &owner->machine) == -ENOMEM)
                return -ENOMEM;
        return 0;
}

/* Takes @pidfd over, also on failure. */
static int owner_fill(pid_t pid, int pidfd, Owner **ret_owner, Uids *ret_uids) {
        Owner *owner = calloc(1, sizeof(*owner));
        int r;

        if (!owner) {
                close(pidfd);
                return -ENOMEM;
        }
        *owner = (Owner){.pid = pid, .pidfd = pidfd};

        r = read_process(owner, ret_uids);
        if (r == 0)
                r = read_names(owner);
        if (r == 0)
                r = ask_pidfd(pidfd);
        if (r) {
                owner_free(owner);
                return r;
        }

        *ret_owner = owner;
        return 0;
}

int owner_new(pid_t pid, Owner **ret_owner) {
        int pidfd = -1, r;
        Uids uids;

        r = open_pid(pid, &pidfd);
        if (r)
                return r;
        return owner_fill(pid, pidfd, ret_owner, &uids);
}

/* "Pid:\tPID" in /proc/self/fdinfo/FD; -1 of a process that is gone, 0 of one that this namespace cannot see.
 */
static int read_pid(int pidfd, pid_t *ret_pid) {
        static const char key[] = "\nPid:\t";
        char path[48], text[FDINFO_TEXT_MAX], *digits;
        uint64_t pid;
        size_t n;
        int r;

        (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%i", pidfd);
        r = fs_read(AT_FDCWD, path, text, sizeof(text), &n);
        if (r)
                return r < 0 ? r : OWNER_E_NO_PROCESS;

        digits = strstr(text, key);
        if (!digits)
                return OWNER_E_NO_PROCESS;
        digits += strlen(key);
        digits[strcspn(digits, "\n")] = '\0';
        if (parse_u64(digits, INT_MAX, &pid) || pid == 0)
                return OWNER_E_NO_PROCESS;

        *ret_pid = (pid_t)pid;
        return 0;
}

int owner_new_pidfd(int pidfd, Owner **ret_owner) {
        Uids uids;
        pid_t pid;
        int fd, r;

        r = read_pid(pidfd, &pid);
        if (r)
                return r;
        fd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;

        return owner_fill(pid, fd, ret_owner, &uids);
}

/* The kernel rounds the start down to its tick, so a process may seem to have started that much earlier, but
 * never later than it did. */
bool owner_started_before(const Owner *owner, uint64_t boottime_usec) {
        uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);

        return owner->start_time / hz * USEC_PER_SEC + owner->start_time % hz * USEC_PER_SEC / hz <=
               boottime_usec;
}

int owner_new_peer(pid_t pid, uid_t uid, int pidfd, uint64_t accepted_boottime_usec, Owner **ret_owner) {
        _cleanup_(owner_freep) Owner *owner = NULL;
        Uids uids = {0};
        int fd = -1, r;

        if (pid <= 0)
                return OWNER_E_NO_PROCESS;
        if (pidfd >= 0) {
                fd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
                if (fd < 0)
                        return -errno;
                return owner_fill(pid, fd, ret_owner, &uids);
        }

        r = open_pid(pid, &fd);
        if (r)
                return r;
        r = owner_fill(pid, fd, &owner, &uids);
        if (r)
                return r;
        /* The credentials of a connection are the effective ones at connect(). */
        if (uids.effective != uid && uids.real != uid)
                return OWNER_E_NOT_PEER;
        if (!owner_started_before(owner, accepted_boottime_usec))
                return OWNER_E_NOT_PEER;

        *ret_owner = steal_ptr(owner);
        return 0;
}

/* As systemd-machined links machines to their units, for sd_pid_get_machine_name(). */
static int read_machine_of_unit(const char *unit, char **ret_machine) {
        static const char prefix[] = "/run/systemd/machines/unit:";
        char path[sizeof(prefix) + NAME_MAX], target[NAME_MAX + 1];
        ssize_t n;

        if (strlen(unit) > NAME_MAX)
                return 0;
        (void)snprintf(path, sizeof(path), "%s%s", prefix, unit);
        n = readlink(path, target, sizeof(target) - 1);
        if (n <= 0)
                return 0;

        *ret_machine = strndup(target, (size_t)n);
        return *ret_machine ? 0 : -ENOMEM;
}

int owner_new_cgroup(const char *path, Owner **ret_owner) {
        _cleanup_(owner_freep) Owner *owner = calloc(1, sizeof(*owner));
        int r;

        if (!owner)
                return -ENOMEM;
        owner->pidfd = -1;

        r = cgroup_new(path, &owner->cgroup);
        if (r)
                return r < 0 ? r : OWNER_E_NO_CGROUP;
        owner->uid = owner->cgroup->uid;
        r = cgroup_get_unit(path, &owner->unit);
        if (r == 0 && owner->unit)
                r = read_machine_of_unit(owner->unit, &owner->machine);
        if (r < 0)
                return r;

        *ret_owner = steal_ptr(owner);
        return 0;
}

Owner *owner_free(Owner *owner) {
        if (!owner)
                return NULL;

        closep(&owner->pidfd);
        cgroup_free(owner->cgroup);
        free(owner->unit);
        free(owner->machine);
        free(owner);
        return NULL;
}

bool owner_is_alive(const Owner *owner) {
        if (owner->cgroup)
                return cgroup_is_there(owner->cgroup);

        return ask_pidfd(owner->pidfd) == 0;
}

const char *owner_format_short(const Owner *owner, char text[static OWNER_TEXT_MAX]) {
        if (owner->cgroup)
                (void)snprintf(text, OWNER_TEXT_MAX, "cgroup %s", owner->cgroup->path);
        else
                (void)snprintf(text, OWNER_TEXT_MAX, "pid %i", (int)owner->pid);
        return text;
}

const char *owner_format(const Owner *owner, char text[static OWNER_TEXT_MAX]) {
        if (owner->cgroup)
                return owner_format_short(owner, text);

        (void)snprintf(text, OWNER_TEXT_MAX, "%s (pid %i)", owner->command, (int)owner->pid);
        return text;
}

int owner_get_affinity(const Owner *owner, CpuSet *ret_cpus) {
        CpuSet cpus;
        int r;

        if (owner->cgroup)
                return OWNER_E_NO_PROCESS;
        r = thread_get_affinity(owner->pid, &cpus);
        if (r)
                return r < 0 ? r : OWNER_E_NO_PROCESS;
        r = ask_pidfd(owner->pidfd);
        if (r)
                return r;

        *ret_cpus = cpus;
        return 0;
}

const char *owner_machine_vm_name(const char *machine) {
        static const char prefix[] = "qemu-";
        const char *digits = machine + strlen(prefix);
        size_t n;

        if (strncmp(machine, prefix, strlen(prefix)) != 0)
                return machine;
        n = strspn(digits, "0123456789");
        if (n == 0 || digits[n] != '-' || digits[n + 1] == '\0')
                return machine;
        return digits + n + 1;
}

static bool has_prefix_and_suffix(const char *text, const char *prefix, const char *suffix) {
        size_t n = strlen(text), n_prefix = strlen(prefix), n_suffix = strlen(suffix);

        return n >= n_prefix + n_suffix && memcmp(text, prefix, n_prefix) == 0 &&
               memcmp(text + n - n_suffix, suffix, n_suffix) == 0;
}

const char *owner_unit_vm_name(const char *unit) {
        if (!unit || *unit == '\0' || strcmp(unit, "init.scope") == 0 ||
            has_prefix_and_suffix(unit, "session-", ".scope") ||
            has_prefix_and_suffix(unit, "user@", ".service"))
                return NULL;
        return unit;
}
