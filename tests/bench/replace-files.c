/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Makes a file of so many bytes, renames it and removes it, again and again for some time, and prints
 * microseconds of processor time per file: the limit of whoever has to have what it says in a file.
 *
 *   replace-files TIME BYTES DIRECTORY
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/parse.h"

#define BYTES_MAX 65536U

static const char temporary[] = ".replace-files", name[] = "replace-files";

static int replace(int dir_fd, const char *data, size_t n) {
        _cleanup_(closep) int fd = -1;

        fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        if (write(fd, data, n) != (ssize_t)n)
                return -EIO;
        if (renameat(dir_fd, temporary, dir_fd, name) < 0 || unlinkat(dir_fd, name, 0) < 0)
                return -errno;
        return 0;
}

static double cpu_usec(void) {
        struct timespec now;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int run(int dir_fd, size_t n, uint64_t duration_usec) {
        static char data[BYTES_MAX];
        uint64_t end = clock_now_usec() + duration_usec;
        double begin = cpu_usec();
        unsigned n_files = 0;

        do {
                int r = replace(dir_fd, data, n);

                if (r < 0)
                        return r;
                n_files++;
        } while (clock_now_usec() < end);

        printf("%.2f\n", (cpu_usec() - begin) / n_files);
        return 0;
}

int main(int argc, char **argv) {
        _cleanup_(closep) int dir_fd = -1;
        uint64_t duration_usec, n;
        int r;

        if (argc != 4 || parse_duration(argv[1], &duration_usec) != 0 ||
            parse_u64(argv[2], BYTES_MAX, &n) != 0) {
                fprintf(stderr, "usage: replace-files TIME BYTES DIRECTORY\n");
                return 2;
        }

        dir_fd = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = dir_fd < 0 ? -errno : run(dir_fd, (size_t)n, duration_usec);
        if (r < 0) {
                fprintf(stderr, "replace-files: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
