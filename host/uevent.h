/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kernel's uevents, as hints of where to look again: what one says is only ever that something may have
 * changed. The socket is libnl's, but uevents have no netlink header: after "action@devpath" come "KEY=VALUE"
 * texts, each with its NUL.
 *
 * Only the kernel is believed. Root of the socket's network namespace can send to it, too, to its port, to
 * its group, and even through the kernel's own socket (NETLINK_KOBJECT_UEVENT takes such messages and sends
 * them on), so the sender's address and credentials are looked at; what does not come from the kernel is
 * dropped and counted.
 *
 * Sources: lib/kobject_uevent.c; virt/kvm/kvm_main.c (kvm_uevent_notify_change); libnl's lib/nl.c (nl_recv).
 */

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "util/cleanup.h"

enum {
        _UEVENT_E_SUCCESS,
        UEVENT_E_MALFORMED,   /* not a uevent: nothing can be said about what has changed */
        UEVENT_E_UNAVAILABLE, /* there is no such socket for us */
};

/* A uevent of the kernel has at most 2 KiB beside its path (UEVENT_BUFFER_SIZE). */
#define UEVENT_SIZE_MAX 8192U

/* What a uevent says to us; a driver's may say several things. */
typedef enum UeventKind {
        UEVENT_TOPOLOGY = 1 << 0, /* CPUs, SPUs or their driver may have changed */
        UEVENT_KVM = 1 << 1, /* what KVM can give to guests may have changed: with KVM, or with the driver */
        UEVENT_VM = 1 << 2,  /* a VM was created or destroyed: nothing to look at again */
} UeventKind;

/*
 * Reads one message: *@ret_kinds are its UeventKinds, 0 for what is none of our business.
 *
 * VMs are created and destroyed by the thousand, and by whoever probes KVM with one of its own: their uevents
 * are a kind of their own, so that they cost no look at the host, and so that a probe is no reason to probe.
 */
int uevent_parse(const char *message, size_t n, unsigned *ret_kinds);

/* What a call of uevent_monitor_receive() has found. */
typedef struct UeventNews {
        unsigned kinds;  /* of all messages together */
        uint64_t n_host; /* messages about the host: of UEVENT_TOPOLOGY or UEVENT_KVM */
        uint64_t n_vms;  /* about VMs */
        uint64_t n_spoofed;
        uint64_t n_lost; /* times at which messages were lost, or could not be read */
} UeventNews;

typedef struct UeventMonitor UeventMonitor;

/* Subscribes. UEVENT_E_UNAVAILABLE comes with a phrase that says why. */
int uevent_monitor_new(UeventMonitor **ret_monitor, const char **ret_reason);
UeventMonitor *uevent_monitor_free(UeventMonitor *monitor);
DEFINE_CLEANUP(UeventMonitor *, uevent_monitor_free)

/* Readable when there is something to receive. */
int uevent_monitor_fd(const UeventMonitor *monitor);

/*
 * Receives what there is, but no more than a bounded number of messages, so that an endless stream of them
 * does not hold the caller. Where messages were lost, all kinds of news but UEVENT_VM are assumed.
 */
void uevent_monitor_receive(UeventMonitor *monitor, UeventNews *ret_news);
