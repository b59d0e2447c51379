/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One VM of KVM's, and what its VCPUs were given. kvm.c is the object, kvm-look.c and kvm-enable.c are the
 * steps, kvm-say.c is what an errno means at each, kvm-broker.c what the broker has to do with it, kvm-exit.c
 * what KVM_RUN comes back with.
 */

#include <spebroker/kvm.h>

#include "libspebroker/lease.h"
#include "util/kvm-numbers.h"

/* Beside an errno: the answer was no. */
#define KVM_ANSWERED_NO (-1)

/* -1: none. */
typedef struct KvmValues {
        int64_t irq;
        int64_t spu;
        int64_t buffer_size;
} KvmValues;

typedef struct KvmVcpu {
        int fd;
        enum spebroker_kvm_step done; /* the last attribute that KVM took; INIT: it has SPE */
} KvmVcpu;

struct spebroker_kvm {
        unsigned n_ref;
        int vm_fd;
        KvmNumbers numbers;

        struct spebroker_lease *lease; /* of the VCPUs, as it was told last; NULL before the first */
        KvmValues asked;               /* the lease's in hand */
        KvmValues given;               /* what any VCPU was given */
        KvmVcpu *vcpus;                /* those that were given anything */
        size_t n_vcpus;
        size_t n_enabled;
        enum spebroker_kvm_bound bound;

        /* Of the last outcome. */
        enum spebroker_kvm_step step;
        int error;
        char *message;
        char *advice;
        char *check;
        uint64_t nearest_size;
};

DEFINE_CLEANUP(struct spebroker_kvm *, spebroker_kvm_unref)

static inline KvmValues kvm_values(const struct spebroker_lease *lease) {
        return (KvmValues){
                .irq = spebroker_lease_get_interrupt(lease),
                .spu = spebroker_lease_get_pmu_type(lease),
                .buffer_size = (int64_t)spebroker_lease_get_buffer_size(lease),
        };
}

/* At the start of each function that returns an outcome. */
void kvm_forget(struct spebroker_kvm *kvm);

/*
 * What the kernel said (an errno, or KVM_ANSWERED_NO) at @step: remembers what that means and returns the
 * outcome. -ENOMEM.
 */
int kvm_say_errno(struct spebroker_kvm *kvm, enum spebroker_kvm_step step, int error);

/*
 * The same of what is known without the kernel, and returns @outcome. @message is taken (NULL: there was no
 * memory), @advice copied.
 */
int kvm_say(struct spebroker_kvm *kvm, enum spebroker_kvm_step step, int outcome, char *message,
            const char *advice);

/* Adds a sentence, which is taken, to what was said; returns @outcome. */
int kvm_say_more(struct spebroker_kvm *kvm, int outcome, char *sentence);

/* After an outcome: which VCPUs have SPE. Returns it, or -ENOMEM. */
int kvm_say_enabled(struct spebroker_kvm *kvm, int outcome);

/* After an outcome: the broker's word for what is in the way, if it is there to ask. Returns it, or -ENOMEM.
 */
int kvm_say_check(struct spebroker_kvm *kvm, struct spebroker *context, int outcome);

/* 0 if SPE may be enabled with the lease, or be run with; else an outcome, or -ENOMEM. */
int kvm_say_lease(struct spebroker_kvm *kvm, enum spebroker_kvm_step step,
                  const struct spebroker_lease *lease);

/* KVM_HAS_DEVICE_ATTR or KVM_SET_DEVICE_ATTR of a VCPU: 0 or an errno. */
int kvm_attribute(const struct spebroker_kvm *kvm, int fd, unsigned long request, KvmNumber number,
                  void *value);

/* What the VCPU was given; NULL: nothing. */
KvmVcpu *kvm_find_vcpu(const struct spebroker_kvm *kvm, int fd);

/* All that can be known before anything is set: 0 if the VCPU may be given kvm->asked. An outcome, or
 * -ENOMEM. */
int kvm_look(struct spebroker_kvm *kvm, const struct spebroker *context, const struct spebroker_lease *lease,
             int vcpu_fd);

/* How many bytes RLIMIT_MEMLOCK lacks for @size more; 0: it is not in the way. */
uint64_t kvm_memlock_missing(uint64_t size);

/* 0 if the lease is the VM's, and what the VM was given is what the lease has; else an outcome, or -ENOMEM.
 */
int kvm_say_values(struct spebroker_kvm *kvm, enum spebroker_kvm_step step,
                   const struct spebroker_lease *lease);

/* Asks the broker for @missing bytes of memlock. 0, an outcome, or -errno. */
int kvm_update(struct spebroker_kvm *kvm, struct spebroker *context, const char *lease_id, uint64_t missing,
               struct spebroker_lease **ret_lease);

/* The lease of the VCPUs as it is now. 0, an outcome, or -errno. */
int kvm_ask_lease(struct spebroker_kvm *kvm, struct spebroker *context, struct spebroker_lease **ret_lease);
