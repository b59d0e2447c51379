/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a virtual machine monitor does with libspebroker: takes a lease, says what it would tell KVM, follows
 * the lease in its event loop, and gives it back when it is asked to, or when it ends (SIGINT, SIGTERM).
 *
 *   cc -o vmm vmm.c $(pkg-config --cflags --libs spebroker)
 *   ./vmm [SOCKET [VM [CPUS]]]
 *
 * Exit status: 0 done, 1 failed, 3 refused, 4 no broker.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spebroker/spebroker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

enum {
        VCPUS = 2,
        REFUSED = 3, /* exit statuses */
        NO_BROKER = 4,
};

static int fail(const char *what, int r) {
        if (r == SPEBROKER_NO_BROKER) {
                fprintf(stderr, "%s: no broker is running\n", what);
                return NO_BROKER;
        }

        fprintf(stderr, "%s: %s\n", what, r < 0 ? strerror(-r) : "the broker is gone, or does not answer");
        return EXIT_FAILURE;
}

/* The refusal in a sentence, and what would be granted instead. */
static int refused(struct spebroker *broker, const struct spebroker_request *request) {
        const struct spebroker_refusal *refusal = spebroker_get_refusal(broker);
        struct spebroker_decision *decision;
        const struct spebroker_offer *offer;

        fprintf(stderr, "%s: %s\n", spebroker_refusal_get_name(refusal),
                spebroker_refusal_get_message(refusal));

        if (spebroker_query(broker, request, &decision) != 0)
                return REFUSED;
        offer = spebroker_decision_get_counter_offer(decision);
        if (offer)
                fprintf(stderr, "There would be %s, CPUs %s, %llu bytes for each VCPU.\n",
                        spebroker_offer_get_instance(offer), spebroker_offer_get_cpus(offer),
                        (unsigned long long)spebroker_offer_get_buffer_size(offer));
        spebroker_decision_unref(decision);
        return REFUSED;
}

/* A real one sets its VCPU threads' affinity, and calls KVM_SET_DEVICE_ATTR. */
static void enable_spe(const struct spebroker_lease *lease) {
        printf("lease %s: %s\n", spebroker_lease_get_id(lease), spebroker_lease_get_instance(lease));
        printf("VCPU threads on CPUs %s\n", spebroker_lease_get_cpus(lease));
        printf("KVM_ARM_VCPU_SPE_IRQ %d\n", spebroker_lease_get_interrupt(lease));
        printf("KVM_ARM_VCPU_SPE_SPU %d\n", spebroker_lease_get_pmu_type(lease));
        printf("KVM_ARM_VCPU_MAX_BUFFER_SIZE %llu\n",
               (unsigned long long)spebroker_lease_get_buffer_size(lease));
        printf("RLIMIT_MEMLOCK +%llu %s\n", (unsigned long long)spebroker_lease_get_memlock_bytes(lease),
               spebroker_lease_get_memlock_state(lease));
}

/* What the VCPU threads were told last. */
struct vm {
        cpu_set_t cpus;
        int pmu_type;
};

/* The lease as it is now, whatever has happened: true if it has to be given back. */
static bool look_at(const struct spebroker_lease *lease, struct vm *vm) {
        const char *state = spebroker_lease_get_state(lease);
        int pmu_type = spebroker_lease_get_pmu_type(lease);
        cpu_set_t now;

        if (strcmp(state, "granted") != 0)
                printf("%s\n", state);
        if (strcmp(state, "revoking") == 0 || strcmp(state, "revoked") == 0)
                return true;

        /* A real one starts its VM again, with a new lease. */
        if (spebroker_lease_is_restart_required(lease)) {
                printf("restart: %s\n", spebroker_lease_get_reason(lease));
                return true;
        }

        /* The driver is loaded again. Had a VCPU enabled SPE, it would be a restart. */
        if (pmu_type != vm->pmu_type) {
                if (pmu_type < 0)
                        printf("no SPU: %s\n", spebroker_lease_get_reason(lease));
                else
                        printf("KVM_ARM_VCPU_SPE_SPU %d\n", pmu_type);
                vm->pmu_type = pmu_type;
        }

        if (spebroker_lease_get_cpu_set(lease, sizeof(now), &now) == 0 && !CPU_EQUAL(&now, &vm->cpus)) {
                printf("VCPU threads on CPUs %s\n", spebroker_lease_get_cpus(lease));
                vm->cpus = now;
        }
        return false;
}

/* Until the lease must be given back (0), it has ended (SPEBROKER_ENDED), or something goes wrong. */
static int run(struct spebroker *stream, struct vm *vm, int signals) {
        for (;;) {
                struct pollfd fds[] = {
                        {.fd = spebroker_get_fd(stream), .events = spebroker_get_events(stream)},
                        {.fd = signals, .events = POLLIN},
                };
                struct spebroker_lease *lease;
                bool give_back;
                int r;

                r = spebroker_process(stream, &lease);
                if (r == SPEBROKER_AGAIN) {
                        if (poll(fds, 2, -1) < 0)
                                return -errno;
                        if (fds[1].revents)
                                return 0;
                        continue;
                }
                /* The broker restarts: the lease lives on, and what has changed will be told. */
                if (r == SPEBROKER_DISCONNECTED || r == SPEBROKER_RECONNECTED) {
                        printf(r == SPEBROKER_RECONNECTED ? "the broker is back\n" : "the broker is away\n");
                        continue;
                }
                if (r != 0)
                        return r;

                give_back = look_at(lease, vm);
                spebroker_lease_unref(lease);
                if (give_back)
                        return 0;
        }
}

static int follow(struct spebroker *broker, struct spebroker *stream, const struct spebroker_lease *lease,
                  int signals) {
        const char *lease_id = spebroker_lease_get_id(lease);
        struct vm vm = {.pmu_type = spebroker_lease_get_pmu_type(lease)};
        int r;

        r = spebroker_lease_get_cpu_set(lease, sizeof(vm.cpus), &vm.cpus);
        if (r < 0)
                return fail("CPUs", r);

        r = spebroker_follow(stream, lease_id);
        if (r == 0)
                r = run(stream, &vm, signals);
        if (r == SPEBROKER_ENDED)
                return EXIT_SUCCESS;
        if (r != 0)
                return fail("follow", r);

        /* Only after no VCPU has SPE enabled any more: this is the VMM's word for it. */
        r = spebroker_release(broker, lease_id);
        if (r != 0)
                return fail("release", r);

        printf("released\n");
        return EXIT_SUCCESS;
}

static int take_lease(struct spebroker *broker, struct spebroker *stream,
                      const struct spebroker_request *request, int signals) {
        struct spebroker_lease *lease;
        int r;

        r = spebroker_adopt(broker, &lease); /* from 'speadm run' */
        if (r == SPEBROKER_NO_LEASE)
                r = spebroker_acquire(broker, request, 0, &lease);
        if (r == SPEBROKER_REFUSED)
                return refused(broker, request);
        if (r != 0)
                return fail("acquire", r);

        enable_spe(lease);
        r = follow(broker, stream, lease, signals);
        spebroker_lease_unref(lease);
        return r;
}

/* A connection that comes back when the broker restarts. */
static int connect_to(const char *path, struct spebroker **ret_context) {
        int r;

        r = spebroker_new_from_path(path, ret_context);
        return r == 0 ? spebroker_set_reconnect(*ret_context, true) : r;
}

int main(int argc, char **argv) {
        const char *path = argc > 1 ? argv[1] : SPEBROKER_SOCKET;
        struct spebroker *broker, *stream; /* a stream has a connection of its own */
        struct spebroker_request *request;
        sigset_t mask;
        int signals, r;

        setvbuf(stdout, NULL, _IOLBF, 0);
        sigemptyset(&mask);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGTERM);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        signals = signalfd(-1, &mask, SFD_CLOEXEC);
        if (signals < 0)
                return EXIT_FAILURE;

        r = connect_to(path, &broker);
        if (r == 0)
                r = connect_to(path, &stream);
        if (r != 0)
                return fail(path, r);
        r = spebroker_request_new(VCPUS, &request);
        if (r == 0)
                r = spebroker_request_set_vm(request, argc > 2 ? argv[2] : "example");
        if (r == 0 && argc > 3)
                r = spebroker_request_set_cpus(request, argv[3]);
        if (r != 0)
                return fail("request", r);

        r = take_lease(broker, stream, request, signals);
        spebroker_request_unref(request);
        spebroker_unref(stream);
        spebroker_unref(broker);
        return r;
}
