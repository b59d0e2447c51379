/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Loads, attaches and proves the program, and keeps its table. As it counts only together (the program, its
 * table, what it is to do, the ring), all of what an earlier process has kept is taken over, or nothing; then
 * what that process had in force goes on until whoever keeps it lets go of it.
 *
 * The table is changed one entry at a time, by one system call each: a process is allowed before it learns of
 * its lease, and not any more when it learns of its end.
 */

#include "bpf/gate.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bpf/explain.h"
#include "bpf/kept.h"
#include "bpf/shared.h"
#include "bpf/spe-gate.h"
#include "util/hash.h"

#include "bpf/spe-gate.skel.h" /* which has no types of its own */

#define NSEC_PER_SEC 1000000000U

static const BpfSubject subject = {.watched = "ioctl()", .refused = "a call of ioctl() pass"};

typedef enum GatePart {
        GATE_PART_PERMITS,
        GATE_PART_NOTICES,
        GATE_PART_CONTROL,
        _GATE_PART_MAPS,
        GATE_PART_LINK = _GATE_PART_MAPS,
        _GATE_PART_MAX,
} GatePart;

static const char *const part_names[_GATE_PART_MAX] = {
        [GATE_PART_PERMITS] = "permits",
        [GATE_PART_NOTICES] = "notices",
        [GATE_PART_CONTROL] = "control",
        [GATE_PART_LINK] = "link",
};

struct Gate {
        struct spe_gate *programs;
        GateControl *control; /* mapped; NULL: it is not attached */
        BpfExplanation explanation;
        int fds[_GATE_PART_MAX]; /* what was kept, until it is loaded; then the link alone */
        char names[_GATE_PART_MAX][KEPT_NAME_MAX];

        struct ring_buffer *notices;
        GateRefusalFn refused; /* while gate_process() runs */
        void *userdata;
        unsigned n_taken;
};

static struct bpf_map *map_of(const struct spe_gate *programs, GatePart part) {
        switch (part) {
        case GATE_PART_PERMITS:
                return programs->maps.permits;
        case GATE_PART_NOTICES:
                return programs->maps.notices;
        default:
                return programs->maps.bss;
        }
}

static void close_part(Gate *gate, GatePart part) {
        if (gate->fds[part] >= 0)
                close(steal_fd(&gate->fds[part]));
}

static void adopt(Gate *gate, NamedFd *kept, size_t n_kept) {
        size_t n;
        const void *bytes = spe_gate__elf_bytes(&n);
        uint64_t checksum = hash_add(HASH_INIT, bytes, n);

        for (GatePart part = 0; part < _GATE_PART_MAX; part++) {
                kept_name(gate->names[part], "gate", checksum, part_names[part]);
                for (size_t i = 0; i < n_kept; i++)
                        if (kept[i].fd >= 0 && gate->fds[part] < 0 &&
                            strcmp(kept[i].name, gate->names[part]) == 0)
                                gate->fds[part] = steal_fd(&kept[i].fd);
        }
}

static bool has_all(const Gate *gate) {
        for (GatePart part = 0; part < _GATE_PART_MAPS; part++)
                if (!kept_is_map(gate->fds[part], map_of(gate->programs, part)))
                        return false;

        return kept_is_link(gate->fds[GATE_PART_LINK], gate->programs->progs.set_attribute);
}

static int load_program(Gate *gate) {
        int r;

        gate->programs = spe_gate__open();
        if (!gate->programs)
                return -errno;

        if (has_all(gate))
                for (GatePart part = 0; part < _GATE_PART_MAPS; part++) {
                        r = bpf_map__reuse_fd(map_of(gate->programs, part), gate->fds[part]);
                        if (r < 0)
                                return r;
                }
        else
                close_part(gate, GATE_PART_LINK);
        for (GatePart part = 0; part < _GATE_PART_MAPS; part++)
                close_part(gate, part); /* libbpf has its own descriptors of them */

        return spe_gate__load(gate->programs);
}

static int attach(Gate *gate) {
        const struct bpf_program *program = gate->programs->progs.set_attribute;
        int fd;

        if (gate->fds[GATE_PART_LINK] >= 0)
                return 0;

        fd = bpf_link_create(bpf_program__fd(program), /* target_fd= */ 0,
                             bpf_program__expected_attach_type(program), /* opts= */ NULL);
        if (fd < 0)
                return fd;

        gate->fds[GATE_PART_LINK] = fd;
        return 0;
}

/* Has the kernel refuse the command that it is all about, on a file that knows no such command. */
static int prove(GateControl *control) {
        _cleanup_(closep) int fd = -1;
        uint64_t mark;
        int r, error;

        fd = eventfd(0, EFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = kept_make_mark(&mark);
        if (r < 0)
                return r;

        shared_store(&control->probed, 0);
        shared_store(&control->probe, mark);
        error = ioctl(fd, KVM_SET_DEVICE_ATTR, mark) < 0 ? errno : 0;
        shared_store(&control->probe, 0);
        return error == EACCES && shared_load(&control->probed) != 0 ? 0 : BPF_E_UNPROVED;
}

static int take_notice(void *userdata, void *data, size_t size) {
        Gate *gate = userdata;
        const GateNotice *notice = data;
        GateRefusal refusal;

        if (size < sizeof(*notice) || notice->cause >= _GATE_CAUSE_MAX)
                return shared_taken(&gate->n_taken);

        refusal = (GateRefusal){
                .cause = (GateCause)notice->cause,
                .refused = notice->refused != 0,
                .pid = (pid_t)notice->process,
                .uid = notice->uid,
                .attribute = notice->attribute,
                .value = notice->value,
                .allowed = notice->allowed,
        };
        memcpy(refusal.command, notice->command, sizeof(refusal.command) - 1);
        gate->refused(&refusal, gate->userdata);
        return shared_taken(&gate->n_taken);
}

static int start(Gate *gate) {
        bool loaded = false;
        int r;

        r = load_program(gate);
        if (r == 0) {
                loaded = true;
                r = attach(gate);
        }
        if (r == 0)
                r = prove(&gate->programs->bss->control);
        if (r) {
                bpf_explain(&subject, loaded, r, &gate->explanation);
                return 0;
        }

        gate->control = &gate->programs->bss->control;
        shared_store(&gate->control->tick_nsec, NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
        gate->notices = ring_buffer__new(bpf_map__fd(gate->programs->maps.notices), take_notice, gate,
                                         /* opts= */ NULL);
        return gate->notices ? 0 : -errno;
}

int gate_new(NamedFd *kept, size_t n_kept, Gate **ret_gate) {
        _cleanup_(gate_freep) Gate *gate = calloc(1, sizeof(*gate));
        int r;

        if (!gate)
                return -ENOMEM;

        for (GatePart part = 0; part < _GATE_PART_MAX; part++)
                gate->fds[part] = -1;
        adopt(gate, kept, n_kept);
        r = start(gate);
        if (r < 0)
                return r;
        if (!gate->control) { /* what is there is of no use, and must not be in the way */
                spe_gate__destroy(gate->programs);
                gate->programs = NULL;
                close_part(gate, GATE_PART_LINK);
        }

        *ret_gate = steal_ptr(gate);
        return 0;
}

Gate *gate_free(Gate *gate) {
        if (!gate)
                return NULL;

        ring_buffer__free(gate->notices);
        if (gate->programs)
                spe_gate__destroy(gate->programs);
        for (GatePart part = 0; part < _GATE_PART_MAX; part++)
                close_part(gate, part);
        free(gate);
        return NULL;
}

bool gate_is_attached(const Gate *gate) {
        return gate->control;
}

const char *gate_get_reason(const Gate *gate) {
        return gate->explanation.reason[0] ? gate->explanation.reason : NULL;
}

const char *gate_get_advice(const Gate *gate) {
        return gate->explanation.advice;
}

void gate_get_counters(const Gate *gate, GateCounters *ret_counters) {
        const GateControl *control = gate->control;

        *ret_counters = (GateCounters){0};
        if (!control)
                return;

        *ret_counters = (GateCounters){
                .refused = shared_load(&control->refused),
                .reported = shared_load(&control->reported),
                .lost = shared_load(&control->lost),
        };
}

size_t gate_get_kept(const Gate *gate, NamedFd *kept, size_t n) {
        if (!gate->control)
                return 0;

        for (GatePart part = 0; part < _GATE_PART_MAX && part < n; part++) {
                int fd = part < _GATE_PART_MAPS ? bpf_map__fd(map_of(gate->programs, part)) : gate->fds[part];

                kept[part] = (NamedFd){.name = gate->names[part], .fd = fd};
        }
        return _GATE_PART_MAX;
}

/* Numbers belong together: while they change, all pass. */
static void set_numbers(GateControl *control, uint64_t group, uint64_t spu, uint64_t size) {
        if (shared_load(&control->group) == group && shared_load(&control->attribute_spu) == spu &&
            shared_load(&control->attribute_size) == size)
                return;

        shared_store(&control->level, GATE_OFF);
        shared_store(&control->group, group);
        shared_store(&control->attribute_spu, spu);
        shared_store(&control->attribute_size, size);
}

void gate_set_rule(Gate *gate, const GateRule *rule) {
        static const uint64_t levels[] = {
                [GATE_ACTION_NONE] = GATE_OFF,
                [GATE_ACTION_REPORT] = GATE_REPORT,
                [GATE_ACTION_REFUSE] = GATE_REFUSE,
        };

        if (!gate->control)
                return;

        set_numbers(gate->control, rule->group, rule->attribute_spu,
                    rule->knows_size ? rule->attribute_size : GATE_NO_ATTRIBUTE);
        shared_store(&gate->control->level, levels[rule->action]);
}

static GateKey key_of(OwnerKey owner, uint64_t pmu_type) {
        return (GateKey){
                .owner = owner,
                .pmu_type = pmu_type == GATE_SPU_ANY ? GATE_ANY_SPU : pmu_type,
        };
}

int gate_allow(Gate *gate, const GateGrant *grant) {
        GatePermit permit = {.start_ticks = grant->start_ticks, .buffer_size = grant->buffer_size};
        GateKey key = key_of(grant->owner, grant->pmu_type);

        if (!gate->control)
                return 0;
        return bpf_map_update_elem(bpf_map__fd(gate->programs->maps.permits), &key, &permit, BPF_ANY);
}

int gate_disallow(Gate *gate, OwnerKey owner, uint64_t pmu_type) {
        GateKey key = key_of(owner, pmu_type);
        int r;

        if (!gate->control)
                return 0;

        r = bpf_map_delete_elem(bpf_map__fd(gate->programs->maps.permits), &key);
        return r == -ENOENT ? 0 : r;
}

int gate_disallow_others(Gate *gate, GateStaysFn stays, void *userdata) {
        bool behind = false;
        GateKey key, last;
        int r, map;

        if (!gate->control)
                return 0;

        /* Behind one that stays, never behind one that has been taken out: that would begin anew. */
        map = bpf_map__fd(gate->programs->maps.permits);
        while ((r = bpf_map_get_next_key(map, behind ? &last : NULL, &key)) == 0) {
                if (stays(key.owner, key.pmu_type == GATE_ANY_SPU ? GATE_SPU_ANY : key.pmu_type, userdata)) {
                        last = key;
                        behind = true;
                        continue;
                }
                r = bpf_map_delete_elem(map, &key);
                if (r < 0)
                        return r;
        }
        return r == -ENOENT ? 0 : r;
}

int gate_get_fd(const Gate *gate) {
        return gate->notices ? ring_buffer__epoll_fd(gate->notices) : -1;
}

int gate_process(Gate *gate, GateRefusalFn refused, void *userdata) {
        if (!gate->notices)
                return 0;

        gate->refused = refused;
        gate->userdata = userdata;
        return shared_take(gate->notices, &gate->n_taken);
}
