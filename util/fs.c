/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Bounded file access. Every file is opened so that neither a FIFO without a writer nor a terminal can hold
 * us, and is read only once the open descriptor has been seen to be a regular file; every loop ends with the
 * caller's bound. What is wrong with the file is a named outcome; what is wrong with us (memory, descriptors)
 * is -errno.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/fs.h"

#define READ_ALL_FIRST_SIZE 4096U
#define TEMPORARY_TRIES     16U
#define TAG_LENGTH          8

static int outcome_of_errno(int error) {
        switch (error) {
        case ENOENT:
        case ENOTDIR:
                return FS_E_NOT_FOUND;
        case EISDIR:
        case ENXIO: /* a socket, or a device without its driver */
        case ENODEV:
                return FS_E_NOT_REGULAR;
        case ENOMEM:
        case EMFILE:
        case ENFILE:
                return -error;
        default:
                return FS_E_UNREADABLE;
        }
}

const char *fs_strerror(int outcome) {
        switch (outcome) {
        case FS_E_NOT_FOUND:
                return "not there";
        case FS_E_NOT_REGULAR:
                return "not a regular file";
        case FS_E_TOO_LARGE:
                return "too large";
        case FS_E_NOT_DURABLE:
                return "not on the disk for sure";
        default:
                return "unreadable";
        }
}

static int open_retry(int dir_fd, const char *path, int flags, mode_t mode) {
        int fd;

        do
                fd = openat(dir_fd, path, flags | O_CLOEXEC | O_NOCTTY, mode);
        while (fd < 0 && errno == EINTR);
        return fd;
}

static int open_regular(int dir_fd, const char *path, int *ret_fd) {
        _cleanup_(closep) int fd = open_retry(dir_fd, path, O_RDONLY | O_NONBLOCK, 0);
        struct stat st;

        if (fd < 0)
                return outcome_of_errno(errno);
        if (fstat(fd, &st) < 0)
                return outcome_of_errno(errno);
        if (!S_ISREG(st.st_mode))
                return FS_E_NOT_REGULAR;

        *ret_fd = steal_fd(&fd);
        return 0;
}

/* Reads until the end of the file or @size bytes, whichever comes first. */
static int read_up_to(int fd, char *buffer, size_t size, size_t *ret_n) {
        size_t n = 0;

        while (n < size) {
                ssize_t k = read(fd, buffer + n, size - n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return outcome_of_errno(errno);
                if (k == 0)
                        break;
                n += (size_t)k;
        }

        *ret_n = n;
        return 0;
}

int fs_read(int dir_fd, const char *path, char *buffer, size_t size, size_t *ret_n) {
        _cleanup_(closep) int fd = -1;
        size_t n;
        int r;

        if (size == 0)
                return -EINVAL;

        r = open_regular(dir_fd, path, &fd);
        if (r)
                return r;

        /* The byte that is for NUL tells whether the file goes on. */
        r = read_up_to(fd, buffer, size, &n);
        if (r)
                return r;
        if (n == size)
                return FS_E_TOO_LARGE;

        buffer[n] = '\0';
        *ret_n = n;
        return 0;
}

int fs_read_line(int dir_fd, const char *path, char *buffer, size_t size, size_t *ret_n) {
        size_t n;
        int r;

        r = fs_read(dir_fd, path, buffer, size, &n);
        if (r)
                return r;
        if (memchr(buffer, '\0', n))
                return FS_E_UNREADABLE;

        if (n > 0 && buffer[n - 1] == '\n')
                buffer[--n] = '\0';
        *ret_n = n;
        return 0;
}

int fs_read_all(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_n) {
        _cleanup_(closep) int fd = -1;
        _cleanup_(freep) char *data = NULL;
        size_t n = 0, size = 0;
        int r;

        if (max >= SIZE_MAX / 2)
                return -EINVAL;

        r = open_regular(dir_fd, path, &fd);
        if (r)
                return r;

        /* As in fs_read(): a file that fills max + 1 bytes is too large. The size that fstat() tells is not
         * used, so the buffer grows with what is really there. */
        do {
                size_t k, grown = size == 0 ? READ_ALL_FIRST_SIZE : size * 2;
                char *p;

                if (grown > max + 1)
                        grown = max + 1;
                p = realloc(data, grown);
                if (!p)
                        return -ENOMEM;
                data = p;
                size = grown;

                r = read_up_to(fd, data + n, size - n, &k);
                if (r)
                        return r;
                n += k;
                if (n > max)
                        return FS_E_TOO_LARGE;
        } while (n == size);

        data[n] = '\0';
        *ret_data = steal_ptr(data);
        *ret_n = n;
        return 0;
}

static const char *last_component(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

/* Opens the directory that @path's last component is in. */
static int open_parent(int dir_fd, const char *path, int *ret_fd) {
        size_t n = (size_t)(last_component(path) - path);
        char parent[PATH_MAX] = ".";
        int fd;

        if (n >= sizeof(parent))
                return -ENAMETOOLONG;
        if (n > 0) {
                memcpy(parent, path, n);
                parent[n] = '\0';
        }

        fd = open_retry(dir_fd, parent, O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0)
                return -errno;

        *ret_fd = fd;
        return 0;
}

/* Makes a fresh file ".NAME.XXXXXXXX": a name of its own for each writer, so that none tears another's. */
static int open_temporary(int dir_fd, const char *name, char buffer[static NAME_MAX + 1], int *ret_fd) {
        for (unsigned i = 0; i < TEMPORARY_TRIES; i++) {
                uint32_t tag;
                int n, fd;

                if (getrandom(&tag, sizeof(tag), 0) != sizeof(tag))
                        return -EIO;
                n = snprintf(buffer, NAME_MAX + 1, ".%s.%0*x", name, TAG_LENGTH, tag);
                if (n < 0 || n > NAME_MAX)
                        return -ENAMETOOLONG;

                fd = open_retry(dir_fd, buffer, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, S_IRUSR | S_IWUSR);
                if (fd >= 0) {
                        *ret_fd = fd;
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
        }

        return -EEXIST;
}

bool fs_is_temporary(const char *name) {
        const char *tag = strrchr(name, '.');

        return name[0] == '.' && tag > name + 1 && strlen(tag + 1) == TAG_LENGTH &&
               strspn(tag + 1, "0123456789abcdef") == TAG_LENGTH;
}

static int write_whole(int fd, const char *data, size_t n, mode_t mode, bool durable) {
        while (n > 0) {
                ssize_t k = write(fd, data, n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                data += k;
                n -= (size_t)k;
        }

        if (fchmod(fd, mode) < 0 || (durable && fsync(fd) < 0))
                return -errno;
        return 0;
}

static int replace(int dir_fd, const char *path, const char *data, size_t n, mode_t mode, bool durable) {
        _cleanup_(closep) int parent_fd = -1, fd = -1;
        const char *name = last_component(path);
        char temporary[NAME_MAX + 1];
        int r;

        if (*name == '\0')
                return -EISDIR;
        r = open_parent(dir_fd, path, &parent_fd);
        if (r < 0)
                return r;
        r = open_temporary(parent_fd, name, temporary, &fd);
        if (r < 0)
                return r;

        r = write_whole(fd, data, n, mode, durable);
        if (r == 0 && renameat(parent_fd, temporary, parent_fd, name) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlinkat(parent_fd, temporary, 0);
                return r;
        }

        /* Without this a crash may bring the old file back after the caller was told of the new one. */
        return durable && fsync(parent_fd) < 0 ? FS_E_NOT_DURABLE : 0;
}

int fs_write_atomic(int dir_fd, const char *path, const char *data, size_t n, unsigned mode) {
        return replace(dir_fd, path, data, n, mode, true);
}

int fs_write_transient(int dir_fd, const char *path, const char *data, size_t n, unsigned mode) {
        return replace(dir_fd, path, data, n, mode, false);
}

static int make_directory(int dir_fd, const char *path, mode_t mode) {
        struct stat st;

        if (mkdirat(dir_fd, path, mode) == 0)
                return 0;
        if (errno != EEXIST)
                return -errno;
        if (fstatat(dir_fd, path, &st, 0) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int fs_mkdir_all(int dir_fd, const char *path, unsigned mode) {
        char prefix[PATH_MAX];
        size_t n = strlen(path);

        if (n >= sizeof(prefix))
                return -ENAMETOOLONG;
        memcpy(prefix, path, n + 1);

        for (size_t i = 1; i <= n; i++) {
                int r;

                if (path[i] != '/' && path[i] != '\0')
                        continue;
                prefix[i] = '\0';
                r = make_directory(dir_fd, prefix, mode);
                if (r < 0)
                        return r;
                prefix[i] = path[i];
        }
        return 0;
}

static bool is_temporary_of(const char *temporary, const char *name) {
        size_t n = strlen(name);

        return fs_is_temporary(temporary) && strlen(temporary) == n + 2 + TAG_LENGTH &&
               strncmp(temporary + 1, name, n) == 0;
}

int fs_remove_temporary(int dir_fd, const char *path) {
        _cleanup_(closedirp) DIR *dir = NULL;
        struct dirent *entry = NULL;
        int fd = -1, r;

        r = open_parent(dir_fd, path, &fd);
        if (r < 0)
                return r;
        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                close(fd);
                return r;
        }

        while ((r = fs_readdir(dir, &entry)) == 0 && entry)
                if (is_temporary_of(entry->d_name, last_component(path)) &&
                    unlinkat(dirfd(dir), entry->d_name, 0) < 0)
                        return -errno;
        return r;
}

int fs_readdir(DIR *dir, struct dirent **ret_entry) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe): each DIR has one user */
        if (!entry && errno != 0)
                return -errno;

        *ret_entry = entry;
        return 0;
}
