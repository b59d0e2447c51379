/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Control groups. A path is looked up below the mount point only, without links, so it can lead nowhere else;
 * the mount is found where systemd has it: at /sys/fs/cgroup, or in the hybrid hierarchy one below.
 */

#include "host/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "host/cgroup-directory.h"
#include "util/fs.h"

/* "populated 1" and "frozen 0"; room for more of them. */
#define EVENTS_MAX 512U
/* /proc/PID/cgroup: the line of each hierarchy, of which the old ones are at most a dozen. */
#define PROC_CGROUP_MAX (64U << 10)

bool cgroup_path_is_valid(const char *path) {
        const char *component = path;

        if (*path != '/' || strlen(path) > CGROUP_PATH_MAX)
                return false;

        while (*component == '/') {
                size_t n = strcspn(++component, "/");

                if (n == 0 || (n == 1 && component[0] == '.') ||
                    (n == 2 && component[0] == '.' && component[1] == '.'))
                        return false;
                component += n;
        }
        return true;
}

/* What is wrong with us is an error; whatever else is, there is no such group. */
static int outcome_of_errno(int error) {
        switch (error) {
        case ENOMEM:
        case EMFILE:
        case ENFILE:
        case ENOSYS:
                return -error;
        default:
                return CGROUP_E_NONE;
        }
}

static int open_root(int *ret_fd) {
        static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};

        for (size_t i = 0; i < ELEMENTS_OF(mounts); i++) {
                _cleanup_(closep) int fd = open(mounts[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
                struct statfs st;

                if (fd < 0 && outcome_of_errno(errno) < 0)
                        return -errno;
                if (fd >= 0 && fstatfs(fd, &st) == 0 && st.f_type == CGROUP2_SUPER_MAGIC) {
                        *ret_fd = steal_fd(&fd);
                        return 0;
                }
        }

        return CGROUP_E_NONE;
}

/*
 * One component after the other, none of which may be a link or on another file system. openat2(2) would do
 * it at once, but a service with RestrictSUIDSGID=yes has none: systemd cannot look into its arguments.
 */
static int open_beneath(int root_fd, const char *path, int *ret_fd) {
        _cleanup_(closep) int fd = -1;
        struct stat root, st;

        if (fstat(root_fd, &root) < 0)
                return outcome_of_errno(errno);

        for (int at_fd = root_fd; at_fd == root_fd || *path == '/'; at_fd = fd) {
                char component[NAME_MAX + 1];
                size_t n;
                int next;

                path += *path == '/';
                n = strcspn(path, "/");
                if (n > NAME_MAX)
                        return CGROUP_E_NONE;
                memcpy(component, path, n);
                component[n] = '\0';
                path += n;

                next = openat(at_fd, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (next < 0)
                        return outcome_of_errno(errno);
                closep(&fd);
                fd = next;
                if (fstat(fd, &st) < 0)
                        return outcome_of_errno(errno);
                if (st.st_dev != root.st_dev)
                        return CGROUP_E_NONE;
        }

        *ret_fd = steal_fd(&fd);
        return 0;
}

int cgroup_open_directory(const char *path, int *ret_fd, struct stat *ret_stat) {
        _cleanup_(closep) int root_fd = -1, fd = -1;
        struct stat st;
        int r;

        r = open_root(&root_fd);
        if (r)
                return r;
        r = open_beneath(root_fd, path + 1, &fd);
        if (r)
                return r;
        if (fstat(fd, &st) < 0)
                return outcome_of_errno(errno);

        *ret_fd = steal_fd(&fd);
        *ret_stat = st;
        return 0;
}

static bool is_threaded(int dir_fd) {
        char type[64];
        size_t n;

        return fs_read_line(dir_fd, "cgroup.type", type, sizeof(type), &n) == 0 &&
               (strcmp(type, "threaded") == 0 || strcmp(type, "domain invalid") == 0);
}

int cgroup_new(const char *path, Cgroup **ret_cgroup) {
        _cleanup_(cgroup_freep) Cgroup *cgroup = NULL;
        _cleanup_(closep) int dir_fd = -1;
        struct stat st;
        bool populated;
        int r;

        if (!cgroup_path_is_valid(path))
                return CGROUP_E_NONE;
        r = cgroup_open_directory(path, &dir_fd, &st);
        if (r)
                return r;
        if (is_threaded(dir_fd))
                return CGROUP_E_NONE;

        cgroup = calloc(1, sizeof(*cgroup) + strlen(path) + 1);
        if (!cgroup)
                return -ENOMEM;
        memcpy(cgroup->path, path, strlen(path) + 1);
        cgroup->id = st.st_ino;
        cgroup->uid = st.st_uid;
        cgroup->events_fd = openat(dir_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
        if (cgroup->events_fd < 0)
                return outcome_of_errno(errno);
        r = cgroup_read_populated(cgroup, &populated);
        if (r)
                return r;

        *ret_cgroup = steal_ptr(cgroup);
        return 0;
}

Cgroup *cgroup_free(Cgroup *cgroup) {
        if (!cgroup)
                return NULL;

        closep(&cgroup->events_fd);
        free(cgroup);
        return NULL;
}

int cgroup_read_populated(const Cgroup *cgroup, bool *ret_populated) {
        static const char key[] = "populated ";
        char text[EVENTS_MAX + 1];
        const char *line;
        ssize_t n;

        do
                n = pread(cgroup->events_fd, text, EVENTS_MAX, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return outcome_of_errno(errno); /* ENODEV of one that was removed */

        text[n] = '\0';
        for (line = text; strncmp(line, key, strlen(key)) != 0; line++) {
                line = strchr(line, '\n');
                if (!line)
                        return CGROUP_E_NONE;
        }
        *ret_populated = line[strlen(key)] == '1';
        return 0;
}

bool cgroup_is_there(const Cgroup *cgroup) {
        _cleanup_(closep) int fd = -1;
        struct stat st;

        return cgroup_open_directory(cgroup->path, &fd, &st) == 0 && st.st_ino == cgroup->id;
}

bool cgroup_has_path(const Cgroup *cgroup, const char *path) {
        size_t n = strlen(cgroup->path);

        return strncmp(path, cgroup->path, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

int cgroup_path_of_process(pid_t pid, char **ret_path) {
        static const char key[] = "0::/";
        _cleanup_(freep) char *text = NULL;
        char file[32], *line, *path;
        size_t n;
        int r;

        (void)snprintf(file, sizeof(file), "/proc/%d/cgroup", pid);
        r = fs_read_all(AT_FDCWD, file, PROC_CGROUP_MAX, &text, &n);
        if (r)
                return r < 0 ? r : CGROUP_E_NONE;

        for (line = text; strncmp(line, key, strlen(key)) != 0; line++) {
                line = strchr(line, '\n');
                if (!line)
                        return CGROUP_E_NONE;
        }
        line += strlen(key) - 1;
        line[strcspn(line, "\n")] = '\0'; /* which no name of a group has */
        path = strdup(line);
        if (!path)
                return -ENOMEM;

        *ret_path = path;
        return 0;
}

static bool ends_with(const char *text, size_t n, const char *suffix) {
        size_t n_suffix = strlen(suffix);

        return n > n_suffix && memcmp(text + n - n_suffix, suffix, n_suffix) == 0;
}

int cgroup_get_unit(const char *path, char **ret_unit) {
        static const char *const suffixes[] = {".service", ".scope"};
        const char *component = path;
        size_t n = 0;
        char *unit;

        do {
                component += n;
                component += *component == '/';
                n = strcspn(component, "/");
        } while (ends_with(component, n, ".slice"));

        /* A name that the kernel could take for a file of its own is escaped so. */
        if (*component == '_') {
                component++;
                n--;
        }
        for (size_t i = 0; i < ELEMENTS_OF(suffixes); i++)
                if (ends_with(component, n, suffixes[i])) {
                        unit = strndup(component, n);
                        if (!unit)
                                return -ENOMEM;
                        *ret_unit = unit;
                        return 0;
                }

        *ret_unit = NULL;
        return 0;
}
