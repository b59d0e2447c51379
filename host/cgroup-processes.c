/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The processes of a control group. cgroup.procs names those of one group alone, so those below are walked,
 * each one a few times at most: whoever makes groups all the time does not keep the broker here.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "host/cgroup-directory.h"
#include "host/cgroup.h"
#include "util/fs.h"

/* Digits of a pid and the end of its line. */
#define PID_LINE_MAX 12U
/* The kernel lets no group be deeper than 65,535; nobody has more than a few, and each is a descriptor. */
#define DEPTH_MAX 32U
/* A process that is not killed at the first look, since another started it meanwhile, is at the next. */
#define KILL_ROUNDS_MAX 16U

typedef struct Walk {
        pid_t *pids;
        size_t n;
        size_t size;
        unsigned n_groups;
        bool incomplete;
} Walk;

static int add_pid(Walk *walk, long pid) {
        if (pid <= 0 || pid > INT32_MAX)
                return 0; /* 0: of another pid namespace, which cannot be named from here */
        if (walk->n == CGROUP_PROCESSES_MAX) {
                walk->incomplete = true;
                return 0;
        }
        if (walk->n == walk->size) {
                size_t size = walk->size > 0 ? walk->size * 2 : 64;
                pid_t *pids = reallocarray(walk->pids, size, sizeof(*pids));

                if (!pids)
                        return -ENOMEM;
                walk->pids = pids;
                walk->size = size;
        }

        walk->pids[walk->n++] = (pid_t)pid;
        return 0;
}

/* Those of one group. A threaded one cannot be read: its processes are those of a group above it. */
static int add_group(Walk *walk, int dir_fd) {
        _cleanup_(freep) char *text = NULL;
        char *line, *end;
        size_t n;
        int r;

        r = fs_read_all(dir_fd, "cgroup.procs", CGROUP_PROCESSES_MAX * PID_LINE_MAX, &text, &n);
        if (r < 0)
                return r;
        if (r > 0) {
                walk->incomplete |= r == FS_E_TOO_LARGE;
                return 0;
        }

        for (line = text; *line; line = end + (*end == '\n')) {
                long pid = strtol(line, &end, 10);

                if (end == line)
                        break;
                r = add_pid(walk, pid);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int walk_group(Walk *walk, int dir_fd, unsigned depth);

static int walk_child(Walk *walk, int parent_fd, const char *name, unsigned depth) {
        _cleanup_(closep) int fd = -1;

        if (walk->n_groups == CGROUP_GROUPS_MAX || depth == DEPTH_MAX) {
                walk->incomplete = true;
                return 0;
        }

        fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? -errno : 0;
        return walk_group(walk, fd, depth + 1);
}

/* NOLINTNEXTLINE(misc-no-recursion): DEPTH_MAX bounds it */
static int walk_group(Walk *walk, int dir_fd, unsigned depth) {
        _cleanup_(closedirp) DIR *dir = NULL;
        struct dirent *entry;
        int fd, r;

        walk->n_groups++;
        r = add_group(walk, dir_fd);
        if (r < 0)
                return r;

        fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                close(fd);
                return r;
        }

        while ((r = fs_readdir(dir, &entry)) == 0 && entry) {
                if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 ||
                    strcmp(entry->d_name, "..") == 0)
                        continue;
                r = walk_child(walk, dir_fd, entry->d_name, depth);
                if (r < 0)
                        return r;
        }
        walk->incomplete |= r < 0; /* it was removed meanwhile */
        return 0;
}

static int compare_pids(const void *a, const void *b) {
        pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

        return (x > y) - (x < y);
}

int cgroup_list(const Cgroup *cgroup, pid_t **ret_pids, size_t *ret_n) {
        _cleanup_(closep) int dir_fd = -1;
        Walk walk = {0};
        struct stat st;
        int r;

        r = cgroup_open_directory(cgroup->path, &dir_fd, &st);
        if (r)
                return r;
        if (st.st_ino != cgroup->id)
                return CGROUP_E_NONE;

        r = walk_group(&walk, dir_fd, 0);
        if (r < 0) {
                free(walk.pids);
                return r;
        }

        if (walk.n > 0) /* there may be no array then */
                qsort(walk.pids, walk.n, sizeof(*walk.pids), compare_pids);
        *ret_pids = walk.pids;
        *ret_n = walk.n;
        return walk.incomplete ? CGROUP_E_INCOMPLETE : 0;
}

/* Whether the process is in the group now; the caller has its pidfd, and asks afterwards. */
static int is_in(const Cgroup *cgroup, pid_t pid) {
        _cleanup_(freep) char *path = NULL;
        int r;

        r = cgroup_path_of_process(pid, &path);
        if (r)
                return r;
        return cgroup_has_path(cgroup, path) ? 0 : CGROUP_E_NONE;
}

/*
 * By pidfd, so that whoever gets the pid next is not meant: the pidfd is opened first, and what the pid is
 * asked then is of that process, or of one that came after it was dead, and then nothing is sent.
 */
static int signal_process(const Cgroup *cgroup, pid_t pid, int sig) {
        _cleanup_(closep) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        int r;

        if (pidfd < 0)
                return errno == ESRCH || errno == EINVAL || errno == ENOENT ? CGROUP_E_NONE : -errno;
        r = is_in(cgroup, pid);
        if (r)
                return r;
        if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0)
                return errno == ESRCH ? CGROUP_E_NONE : -errno;
        return 0;
}

static bool has_pid(const pid_t *pids, size_t n, pid_t pid) {
        return n > 0 && bsearch(&pid, pids, n, sizeof(*pids), compare_pids);
}

int cgroup_kill(const Cgroup *cgroup, int sig) {
        _cleanup_(freep) pid_t *known = NULL;
        size_t n_known = 0;
        bool sent = false;
        int error = 0;

        for (unsigned round = 0; round < (sig == SIGKILL ? KILL_ROUNDS_MAX : 1); round++) {
                _cleanup_(freep) pid_t *pids = NULL;
                bool news = false;
                size_t n = 0;
                int r;

                r = cgroup_list(cgroup, &pids, &n);
                if (r < 0)
                        return r;
                if (r == CGROUP_E_NONE)
                        break;

                for (size_t i = 0; i < n; i++) {
                        if (has_pid(known, n_known, pids[i]))
                                continue;
                        news = true;
                        r = signal_process(cgroup, pids[i], sig);
                        sent |= r == 0;
                        if (r < 0)
                                error = r;
                }
                if (!news)
                        break;
                free(known);
                known = steal_ptr(pids);
                n_known = n;
        }

        return error < 0 ? error : sent ? 0 : CGROUP_E_NONE;
}
