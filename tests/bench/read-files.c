/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Opens, reads and closes each of the files that are named on standard input (a directory is listed), again
 * and again for some time, and prints microseconds per pass: the limit of whoever has to know what they say.
 *
 *   read-files TIME <NAMES
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/parse.h"

#define FILES_MAX 65536U

typedef struct File {
        char *path;
        int is_directory;
} File;

static int list_directory(const char *path) {
        _cleanup_(closedirp) DIR *dir = opendir(path);

        if (!dir)
                return -errno;
        while (readdir(dir))
                ;
        return 0;
}

static int read_file(const char *path) {
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        char buffer[16384];
        ssize_t n;

        if (fd < 0)
                return -errno;
        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                ;
        return n < 0 ? -errno : 0;
}

static int read_names(File *files, size_t *ret_n) {
        size_t n = 0, size = 0;
        char *line = NULL;

        while (n < FILES_MAX && getline(&line, &size, stdin) > 0) {
                struct stat st;

                line[strcspn(line, "\n")] = '\0';
                if (stat(line, &st) < 0)
                        return -errno;
                files[n++] = (File){.path = steal_ptr(line), .is_directory = S_ISDIR(st.st_mode)};
        }
        free(line);
        *ret_n = n;
        return 0;
}

static int run(File *files, size_t n, uint64_t duration_usec) {
        uint64_t begin = clock_now_usec(), now;
        unsigned n_passes = 0;

        do {
                for (size_t i = 0; i < n; i++) {
                        int r = files[i].is_directory ? list_directory(files[i].path)
                                                      : read_file(files[i].path);

                        if (r < 0)
                                return r;
                }
                n_passes++;
                now = clock_now_usec();
        } while (now < begin + duration_usec);

        printf("%.1f\n", (double)(now - begin) / n_passes);
        return 0;
}

int main(int argc, char **argv) {
        File *files = calloc(FILES_MAX, sizeof(*files));
        uint64_t duration_usec;
        size_t n = 0;
        int r;

        if (argc != 2 || !files || parse_duration(argv[1], &duration_usec) != 0) {
                fprintf(stderr, "usage: read-files TIME <NAMES\n");
                return 2;
        }

        r = read_names(files, &n);
        if (r == 0)
                r = run(files, n, duration_usec);
        for (size_t i = 0; i < n; i++)
                free(files[i].path);
        free(files);
        if (r < 0) {
                fprintf(stderr, "read-files: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
