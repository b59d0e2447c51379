/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A socket file is stale if nobody answers a connect() on it; only then is it replaced. It is bound under a
 * name through its directory's descriptor, so that the length of the path does not matter.
 */

#include "broker/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util/fs.h"

#define SOCKET_MODE 0666 /* who may do what is decided per method */

static const char *const registered_interfaces[] = {"io.spebroker.Broker", "io.spebroker.Admin"};

/* The address of @name in the directory @dir_fd. */
static int make_address(int dir_fd, const char *name, struct sockaddr_un *ret_address) {
        int n;

        *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
        n = snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%i/%s", dir_fd,
                     name);
        return n < (int)sizeof(ret_address->sun_path) ? 0 : -ENAMETOOLONG;
}

/* LISTENER_E_IN_USE if somebody answers at @address. */
static int probe(const struct sockaddr_un *address) {
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
                return LISTENER_E_IN_USE;

        return 0;
}

/* Makes room for the socket. What is no socket is somebody's file, and stays. */
static int remove_stale(int dir_fd, const char *name) {
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EEXIST;

        return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

static int bind_and_listen(int dir_fd, const char *name, int *ret_fd) {
        _cleanup_(closep) int fd = -1;
        struct sockaddr_un address;
        int r;

        r = make_address(dir_fd, name, &address);
        if (r < 0)
                return r;
        r = probe(&address);
        if (r)
                return r;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        r = remove_stale(dir_fd, name);
        if (r < 0)
                return r;
        if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        if (fchmodat(dir_fd, name, SOCKET_MODE, 0) < 0 || listen(fd, SOMAXCONN) < 0) {
                r = -errno;
                unlinkat(dir_fd, name, 0);
                return r;
        }

        *ret_fd = steal_fd(&fd);
        return 0;
}

/* Best effort: whoever finds the socket by its path does not need the registry. */
static bool register_interfaces(int root_fd, const char *socket_path) {
        _cleanup_(closep) int dir_fd = -1;

        if (fs_mkdir_all(root_fd, REGISTRY_PATH, 0755) < 0)
                return false;
        dir_fd = openat(root_fd, REGISTRY_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return false;

        for (size_t i = 0; i < ELEMENTS_OF(registered_interfaces); i++) {
                unlinkat(dir_fd, registered_interfaces[i], 0);
                (void)!symlinkat(socket_path, dir_fd, registered_interfaces[i]);
        }
        return true;
}

static int open_at(Listener *listener, int at_fd, const char *path) {
        _cleanup_(freep) char *directory_copy = strdup(path), *name_copy = strdup(path);
        _cleanup_(closep) int dir_fd = -1;

        if (!directory_copy || !name_copy)
                return -ENOMEM;

        dir_fd = openat(at_fd, dirname(directory_copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return -errno;

        return bind_and_listen(dir_fd, basename(name_copy), &listener->fd);
}

int listener_open(Listener *listener, const char *root, const char *path) {
        _cleanup_(freep) char *made = NULL, *absolute = NULL;
        int r;

        if (path) {
                made = strdup(path);
                if (!made)
                        return -ENOMEM;
                r = open_at(listener, AT_FDCWD, path);
        } else {
                absolute = realpath(root ?: "/", NULL);
                if (!absolute)
                        return -errno;
                if (asprintf(&made, "%s/" RUNTIME_DIRECTORY "/" SOCKET_NAME,
                             strcmp(absolute, "/") == 0 ? "" : absolute) < 0)
                        return -ENOMEM;
                r = fs_mkdir_all(listener->root_fd, RUNTIME_DIRECTORY, 0755);
                if (r == 0)
                        r = open_at(listener, listener->root_fd, RUNTIME_DIRECTORY "/" SOCKET_NAME);
        }
        if (r)
                return r;

        listener->path = steal_ptr(made);
        if (!path)
                listener->registered = register_interfaces(listener->root_fd, listener->path);
        return 0;
}

static void unregister_interfaces(int root_fd) {
        for (size_t i = 0; i < ELEMENTS_OF(registered_interfaces); i++) {
                char path[128];

                snprintf(path, sizeof(path), REGISTRY_PATH "/%s", registered_interfaces[i]);
                unlinkat(root_fd, path, 0);
        }
}

void listener_deinit(Listener *listener) {
        if (listener->registered)
                unregister_interfaces(listener->root_fd);
        if (listener->path)
                unlink(listener->path);
        free(listener->path);
        if (listener->fd >= 0)
                close(listener->fd);
        *listener = LISTENER_NULL(-1);
}
