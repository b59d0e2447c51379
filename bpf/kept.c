/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What is handed over may have any name, and be anything: it is taken for what it says only if the kernel
 * says the same.
 */

#include "bpf/kept.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

void kept_name(char name[static KEPT_NAME_MAX], const char *module, uint64_t checksum, const char *part) {
        (void)snprintf(name, KEPT_NAME_MAX, "%s-%016llx-%s", module, (unsigned long long)checksum, part);
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

bool kept_is_map(int fd, const struct bpf_map *map) {
        struct bpf_map_info info = {0};
        __u32 size = sizeof(info);

        return fd >= 0 && is_of_kind(fd, "anon_inode:bpf-map") &&
               bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == bpf_map__type(map) &&
               info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
               info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map);
}

bool kept_is_link(int fd, const struct bpf_program *program) {
        struct bpf_link_info info = {0};
        __u32 size = sizeof(info);

        if (fd < 0 || !is_of_kind(fd, "anon_inode:bpf_link") || bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
                return false;

        if (!program)
                return info.type == BPF_LINK_TYPE_RAW_TRACEPOINT;
        return info.type == BPF_LINK_TYPE_TRACING &&
               info.tracing.attach_type == (__u32)bpf_program__expected_attach_type(program);
}

int kept_make_mark(uint64_t *ret_mark) {
        uint64_t mark = 0;

        while (mark == 0)
                if (getrandom(&mark, sizeof(mark), 0) != sizeof(mark))
                        return -errno;
        *ret_mark = mark;
        return 0;
}
