/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * main() of the fuzz targets where there is no libFuzzer: runs the target once over every file of the corpus
 * directories given. A corpus that is missing or empty fails: a check that sees nothing proves nothing.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "util/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(int dir_fd, const char *name) {
        _cleanup_(closep) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        _cleanup_(freep) uint8_t *data = NULL;
        struct stat st;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -1;
        if (!S_ISREG(st.st_mode))
                return 0;

        data = malloc((size_t)st.st_size + 1);
        if (!data)
                return -1;
        n = read(fd, data, (size_t)st.st_size);
        if (n < 0)
                return -1;

        LLVMFuzzerTestOneInput(data, (size_t)n);
        return 1;
}

int main(int argc, char **argv) {
        unsigned n_files = 0;

        for (int i = 1; i < argc; i++) {
                _cleanup_(closedirp) DIR *dir = opendir(argv[i]);

                if (!dir) {
                        perror(argv[i]);
                        return EXIT_FAILURE;
                }

                for (struct dirent *entry; (entry = readdir(dir));) {
                        int r = replay_file(dirfd(dir), entry->d_name);

                        if (r < 0) {
                                perror(entry->d_name);
                                return EXIT_FAILURE;
                        }
                        n_files += (unsigned)r;
                }
        }

        if (n_files == 0) {
                fprintf(stderr, "no corpus\n");
                return EXIT_FAILURE;
        }
        printf("%u inputs\n", n_files);
        return EXIT_SUCCESS;
}
