/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What only an event of our own can show: that the kernel refuses what an LSM program refuses, what files of
 * perf events are like, and who the broker is. The event counts nothing, and carries a number that nobody can
 * guess, so that nobody else's is taken for it.
 */

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf/arbiter-load.h"
#include "bpf/shared.h"
#include "bpf/spe-arbiter.skel.h"

/* One pass over what the iterator has to say, which is nothing: what it finds, it enters into the table. */
static int read_to_end(int fd) {
        char byte;

        for (;;) {
                ssize_t n = read(fd, &byte, sizeof(byte));

                if (n == 0)
                        return 0;
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return -errno;
        }
}

int arbiter_run_iterator(Arbiter *arbiter, pid_t process) {
        union bpf_iter_link_info which = {.task = {.pid = (__u32)process}};
        LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = &which, .iter_info_len = sizeof(which));
        _cleanup_(closep) int link = -1, fd = -1;
        int program = bpf_program__fd(arbiter->programs->progs.look);

        link = bpf_link_create(program, /* target_fd= */ 0, BPF_TRACE_ITER, process != 0 ? &options : NULL);
        if (link < 0)
                return link;
        fd = bpf_iter_create(link);
        if (fd < 0)
                return fd;

        return read_to_end(fd);
}

static int open_marked(__u64 mark) {
        struct perf_event_attr attributes = {
                .type = PERF_TYPE_SOFTWARE,
                .size = sizeof(attributes),
                .config = PERF_COUNT_SW_DUMMY,
                .config1 = mark,
                .disabled = 1,
                .exclude_kernel = 1,
        };
        long fd = syscall(SYS_perf_event_open, &attributes, /* pid= */ 0, /* cpu= */ -1, /* group_fd= */ -1,
                          PERF_FLAG_FD_CLOEXEC);

        return fd < 0 ? -errno : (int)fd;
}

int arbiter_prove_refusal(Arbiter *arbiter) {
        ArbiterControl *control = arbiter->control;
        _cleanup_(closep) int fd = -1;
        uint64_t mark = 0;
        int r;

        r = kept_make_mark(&mark);
        if (r < 0)
                return r;

        shared_store(&control->probed, 0);
        shared_store(&control->probe_freed, 0);
        shared_store(&control->probe, mark);
        fd = open_marked(mark);
        shared_store(&control->probe, 0);
        if (fd != -EBUSY || shared_load(&control->probed) == 0)
                return BPF_E_UNPROVED;

        shared_store(&control->exact, !shared_load(&control->probe_freed));
        return 0;
}

int arbiter_teach_iterator(Arbiter *arbiter) {
        ArbiterControl *control = arbiter->control;
        _cleanup_(closep) int fd = -1;
        uint64_t mark = 0;
        int r;

        r = kept_make_mark(&mark);
        if (r < 0)
                return r;
        fd = open_marked(mark);
        if (fd < 0)
                return fd;

        shared_store(&control->lesson, mark);
        r = arbiter_run_iterator(arbiter, getpid());
        shared_store(&control->lesson, 0);
        if (r < 0)
                return r;

        return shared_load(&control->file_operations) != 0 ? 0 : -ENODATA;
}
