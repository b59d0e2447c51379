/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef SPEBROKER_H
#define SPEBROKER_H

/*
 * libspebroker: a virtual machine monitor (VMM) asks spe-broker(8) which Statistical Profiling Unit (SPU) of
 * this host, which CPUs and how much buffer its guest may have, before it enables Arm SPE on its VCPUs.
 *
 * Objects are opaque and counted: x_new(), or the call that hands one out, gives one reference, x_ref() one
 * more, and x_unref() takes one away; it accepts NULL and returns NULL. Accessors never fail. A string or
 * object that an accessor returns belongs to the object that it was asked of and lives as long as that.
 *
 * Nothing here starts a thread, installs a signal handler, prints, or raises SIGPIPE. An object is used by
 * one thread at a time; contexts share nothing with each other.
 *
 * What a function returns:
 *   0         done; outputs (ret_...) are set. In every other case they are untouched.
 *   positive  one of enum spebroker_result.
 *   negative  -errno: -ENOMEM, -EINVAL (an argument that cannot be right), -EPROTO (the broker's answer makes
 *             no sense), -EBUSY (see spebroker_follow()), -EACCES and others of connect().
 */

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* Where the broker listens unless told otherwise. */
#define SPEBROKER_SOCKET "/run/spe-broker/io.spebroker.Broker"

/* Time that a call may take unless told otherwise, in microseconds. */
#define SPEBROKER_TIMEOUT_USEC 5000000

enum spebroker_result {
        /* The broker said no: spebroker_get_refusal() has its name, its fields and a sentence. */
        SPEBROKER_REFUSED = 1,
        /* Nobody listens at the socket, or there is none: no broker on this host, or it is not running. */
        SPEBROKER_NO_BROKER = 2,
        /* The connection is gone, and this call was not made, or is one that changes nothing. */
        SPEBROKER_DISCONNECTED = 3,
        /*
         * The connection went after the call had been sent, and whether it was carried out cannot be known:
         * spebroker_acquire(), spebroker_acquire_and_follow(), spebroker_update_cpus(),
         * spebroker_update_memlock(), spebroker_release(). With reconnecting on, the calls among them only
         * say so when no broker is back in time (spebroker_update_memlock(): always), and
         * spebroker_acquire_and_follow() never does.
         */
        SPEBROKER_OUTCOME_UNKNOWN = 4,
        /* No answer in time. The connection was closed; whether the call was carried out is not known. */
        SPEBROKER_TIMEOUT = 5,
        /* spebroker_process(): no change to tell now. Wait for the descriptor. */
        SPEBROKER_AGAIN = 6,
        /* spebroker_process(): the stream goes on over a new connection. What has changed is told next. */
        SPEBROKER_RECONNECTED = 7,
        /* spebroker_process(): no stream runs (any more); the context takes calls. */
        SPEBROKER_ENDED = 8,
        /* spebroker_adopt(): this process was not started under a lease, or under one that has ended. */
        SPEBROKER_NO_LEASE = 9
};

/* How a lease shares its CPUs. */
enum spebroker_mode {
        SPEBROKER_MODE_DEFAULT = 0,   /* what the broker's configuration says */
        SPEBROKER_MODE_EXCLUSIVE = 1, /* no host session, no other lease */
        SPEBROKER_MODE_GUEST = 2,     /* no CPU-wide host session; other leases may overlap */
        SPEBROKER_MODE_SHARED = 3     /* host sessions are allowed, and reported */
};

struct spebroker;          /* a context: one connection */
struct spebroker_request;  /* what a VMM asks for */
struct spebroker_lease;    /* a lease as it was at one instant; never changes */
struct spebroker_decision; /* the answer to 'would I get it?' */
struct spebroker_offer;    /* what would be granted; belongs to a decision */
struct spebroker_refusal;  /* a 'no'; belongs to a context or a decision */
struct spebroker_checks;   /* why a guest can have SPE on this host or not, as it was at one instant */
struct spebroker_check;    /* one of the reasons; belongs to the checks */
struct spebroker_holder;   /* somebody in the way; belongs to a refusal */

/* --- Contexts --- */

/*
 * Connects to SPEBROKER_SOCKET. The broker knows a connection by the process that connected it, also after
 * fork() and after the descriptor was passed on: so the VMM itself connects, or the request says
 * spebroker_request_set_pid(). SPEBROKER_NO_BROKER; SPEBROKER_TIMEOUT if a broker is there but takes no
 * connection for 5 seconds.
 */
int spebroker_new(struct spebroker **ret_context);

/* The same, at @path: at most 107 bytes, else -ENAMETOOLONG. */
int spebroker_new_from_path(const char *path, struct spebroker **ret_context);

/*
 * Uses @fd, a connected stream socket, for a process that may not connect. On success the context owns it and
 * has set its close-on-exec flag; whether it blocks does not matter and is left alone. -EBADF, -ENOTSOCK,
 * -EPROTOTYPE.
 */
int spebroker_new_from_fd(int fd, struct spebroker **ret_context);

struct spebroker *spebroker_ref(struct spebroker *context);

/* The last reference closes the connection. Leases last: they belong to the process. */
struct spebroker *spebroker_unref(struct spebroker *context);

/* How long a call may take, in microseconds. UINT64_MAX: for ever. */
void spebroker_set_timeout(struct spebroker *context, uint64_t usec);

/*
 * Whether a lost connection may be made anew, so that a broker that restarts is not noticed; off at first,
 * since a seccomp filter may kill for a connect(). A call then connects again, with delays that grow to half
 * a second, and is sent again: for the context's timeout at most, also where it has longer to wait.
 *
 *   spebroker_query(), spebroker_check_host(), spebroker_adopt()
 *                                              change nothing
 *   spebroker_acquire()                        with a request id (the library's own, if there is none) and
 *                                              what is left of the wait: it gives the same lease, once
 *   spebroker_update_cpus()                    what is asked for is where the lease is in the end
 *   spebroker_release()                        a lease that is not there the second time has been released
 *   spebroker_update_memlock()                 is not sent again, as it might be charged twice
 *
 * Only if no broker is back in time is the outcome unknown: then acquire the same again, on this context. For
 * streams see spebroker_process().
 *
 * Switch it on before asking for the descriptor: it is then another one, of an epoll(7) instance, and stays
 * the same over all connections, and also if this is switched off again. -EOPNOTSUPP for a context from a
 * descriptor, which never connects; -EMFILE and others of epoll_create1() and timerfd_create().
 */
int spebroker_set_reconnect(struct spebroker *context, bool reconnect);

/* @priority is one of syslog(3)'s; @message is one line without its end. */
typedef void (*spebroker_log_fn)(void *userdata, int priority, const char *message);

/* What happens to the connection is told to @fn; with NULL, as at first, to nobody. */
void spebroker_set_log_fn(struct spebroker *context, spebroker_log_fn fn, void *userdata);

/* The refusal, after a call that returned SPEBROKER_REFUSED; NULL after any other. Until the next call. */
const struct spebroker_refusal *spebroker_get_refusal(const struct spebroker *context);

/* --- Requests --- */

/*
 * A request for @vcpus VCPUs (1 to 4096), with everything else up to the broker. Setters copy; NULL and 0 go
 * back to that. Strings must be UTF-8, else -EINVAL; what they say is judged by the broker, which refuses
 * with InvalidParameter.
 */
int spebroker_request_new(unsigned int vcpus, struct spebroker_request **ret_request);
struct spebroker_request *spebroker_request_ref(struct spebroker_request *request);
struct spebroker_request *spebroker_request_unref(struct spebroker_request *request);

/* The VM's name, 1 to 255 bytes without control characters. Else derived from the owner's machine or unit. */
int spebroker_request_set_vm(struct spebroker_request *request, const char *vm);

/* Host CPUs, a kernel cpulist ("0-3,8"), all of one instance. Else those that the owner's affinity allows. */
int spebroker_request_set_cpus(struct spebroker_request *request, const char *cpus);

/* The SPU by name ("arm_spe_0"). Else the broker's choice. */
int spebroker_request_set_instance(struct spebroker_request *request, const char *instance);

/* Bytes of buffer per VCPU, at most INT64_MAX (else -EINVAL). Else the configuration's DefaultBufferSize. */
int spebroker_request_set_buffer_size(struct spebroker_request *request, uint64_t bytes);

/* True: this buffer size or a refusal. False, as at first: less if need be. */
void spebroker_request_set_exact(struct spebroker_request *request, bool exact);

/* -EINVAL if @mode is none of the enum's. */
int spebroker_request_set_mode(struct spebroker_request *request, enum spebroker_mode mode);

/* The process that shall own the lease: of the caller's user, for orchestrators of any. Else the caller. The
 * pid is that in the broker's pid namespace; in a container getpid() says another one. */
int spebroker_request_set_pid(struct spebroker_request *request, pid_t pid);

/*
 * In place of a process, the control group (cgroup2) that shall own the lease, as in the line "0::PATH" of
 * /proc/PID/cgroup: all processes in it or below it, also those that come later. For a VMM that forks, or
 * that is started in it after the lease was taken. Its directory must be the caller's user's, for
 * orchestrators anybody's.
 */
int spebroker_request_set_cgroup(struct spebroker_request *request, const char *path);

/*
 * 1 to 64 bytes: acquiring again with it gives the same lease, so that a lost answer does no harm. With
 * spebroker_set_reconnect() the library makes one for each acquiring, and has the same one again where a
 * context acquires the same after SPEBROKER_OUTCOME_UNKNOWN or SPEBROKER_TIMEOUT.
 */
int spebroker_request_set_request_id(struct spebroker_request *request, const char *id);

/* --- Calls: they block, for the context's timeout at most --- */

/*
 * Can a guest have SPE on this host now, and if not, why? For a VMM that was refused, or that wants to tell
 * its user before it asks for anything. Returns 0 whatever the answer is.
 */
int spebroker_check_host(struct spebroker *context, struct spebroker_checks **ret_checks);

/*
 * What would spebroker_acquire() answer now, and why? Returns 0 for a 'no' as well: the decision has every
 * refusal, and a counter-offer if something like the request would be granted. SPEBROKER_REFUSED if the
 * question itself is wrong (InvalidParameter, PermissionDenied).
 */
int spebroker_query(struct spebroker *context, const struct spebroker_request *request,
                    struct spebroker_decision **ret_decision);

/*
 * The lease that this process was started under, by 'speadm run' or whoever else acquired one for it and set
 * SPE_BROKER_LEASE: ask for it first, and acquire one only after SPEBROKER_NO_LEASE, or the VM is charged
 * twice. It is this process's only if SPE_BROKER_PID is its pid, as getpid() has it, or, without that
 * variable, if the broker says so; so what a VMM starts does not take the VMM's lease for its own.
 */
int spebroker_adopt(struct spebroker *context, struct spebroker_lease **ret_lease);

/*
 * Takes a lease. A request that is Busy waits up to @wait_usec microseconds (0: not at all) in the broker's
 * queue, on top of the context's timeout; a wait that runs out is SPEBROKER_REFUSED with what stood in the
 * way. Who is in the way may also be a perf session of the host. A refusal has no counter-offer: for that,
 * spebroker_query() with the same request.
 */
int spebroker_acquire(struct spebroker *context, const struct spebroker_request *request, uint64_t wait_usec,
                      struct spebroker_lease **ret_lease);

/* Moves a lease to other CPUs of its instance, a kernel cpulist. @ret_lease may be NULL. */
int spebroker_update_cpus(struct spebroker *context, const char *lease_id, const char *cpus,
                          struct spebroker_lease **ret_lease);

/*
 * KVM wants more locked memory than RLIMIT_MEMLOCK allows, by so many bytes: ENOMEM for the buffer's size, or
 * KVM_EXIT_RLIMIT. The lease is charged that much more, until it ends, and RLIMIT_MEMLOCK is what the broker
 * makes of that: see spebroker_lease_get_memlock_state(), and try again. SPEBROKER_REFUSED with LimitExceeded
 * if a limit of the configuration is in the way; -EINVAL for 0, and for more than INT64_MAX. @ret_lease may
 * be NULL.
 */
int spebroker_update_memlock(struct spebroker *context, const char *lease_id, uint64_t missing_bytes,
                             struct spebroker_lease **ret_lease);

/* Ends a lease. It is the VMM's word that no VCPU of it has SPE enabled, or never had. */
int spebroker_release(struct spebroker *context, const char *lease_id);

/* --- Streams: for an event loop --- */

/*
 * Makes the context a stream of the lease's changes: spebroker_process() hands them out, first the lease as
 * it is. Sends without waiting, so a refusal comes from spebroker_process() too. A connection answers in
 * order and calls behind a stream would wait until it ends, so until then every call on this context is
 * -EBUSY. Make another context for calls (a sandboxed VMM has two descriptors passed).
 */
int spebroker_follow(struct spebroker *context, const char *lease_id);

/*
 * spebroker_acquire() and spebroker_follow() as one stream, without blocking: queued, granted, and so on.
 * With reconnecting on, a request that waits when the connection is lost is made again as the same one, for
 * what is left of its wait; it has lost its place in the queue.
 */
int spebroker_acquire_and_follow(struct spebroker *context, const struct spebroker_request *request,
                                 uint64_t wait_usec);

/*
 * The descriptor to poll() while a stream runs; it stays the context's. With reconnecting on it is always the
 * same, and readable when it is time to try again, too; else the connection's, -1 while there is none.
 */
int spebroker_get_fd(const struct spebroker *context);

/* The poll() events to wait for: POLLIN, and POLLOUT while something is unsent. Ask before each wait. */
short spebroker_get_events(const struct spebroker *context);

/*
 * The next change of a stream. Never waits. When the descriptor is ready, call it until it says
 * SPEBROKER_AGAIN.
 *
 *   0                          *ret_lease is the lease after a change, see spebroker_lease_get_change()
 *   SPEBROKER_AGAIN            nothing complete; poll() and come back
 *   SPEBROKER_REFUSED          the stream ended with an error: not granted, or there is no such lease
 *   SPEBROKER_ENDED            no stream runs (any more): the change before was the last one
 *   SPEBROKER_DISCONNECTED     the connection is gone; the lease lives on. With reconnecting on it is tried
 *                              to make another one, at once and then with delays that grow to 5 seconds:
 *                              go on as with SPEBROKER_AGAIN. Else the stream is over: spebroker_follow()
 *                              on a new context
 *   SPEBROKER_OUTCOME_UNKNOWN  without reconnecting, the connection went before a lease was granted: acquire
 *                              again, with the same request id
 *   SPEBROKER_RECONNECTED      with reconnecting on: the stream goes on over another connection. What is
 *                              another than it was said last follows as changes, and nothing else: one for
 *                              each, with the lease as it is now. One that is not there any more has ended,
 *                              and is told as it was last
 */
int spebroker_process(struct spebroker *context, struct spebroker_lease **ret_lease);

/* --- Leases --- */

struct spebroker_lease *spebroker_lease_ref(struct spebroker_lease *lease);
struct spebroker_lease *spebroker_lease_unref(struct spebroker_lease *lease);

/* 32 lowercase hexadecimal digits. */
const char *spebroker_lease_get_id(const struct spebroker_lease *lease);

/*
 * Of a stream, what happened: queued, granted, updated, cpus, contended, uncontended, misplaced, placed,
 * revoking, restored, revoked, ended, or a word of a newer broker. NULL: nothing, this is how the lease is.
 * What to do about it follows from the lease itself, see LEASES THAT CHANGE in libspebroker(3).
 */
const char *spebroker_lease_get_change(const struct spebroker_lease *lease);

/*
 * queued, granted, revoking (be done within the remaining time), revoked (nothing is promised any more),
 * ended, or a word of a newer broker.
 */
const char *spebroker_lease_get_state(const struct spebroker_lease *lease);

/* Why it is in this state, in a sentence; NULL if there is nothing to say. */
const char *spebroker_lease_get_reason(const struct spebroker_lease *lease);

/* The VM's name. */
const char *spebroker_lease_get_vm(const struct spebroker_lease *lease);

/* Where the name comes from: administrator, machine, unit, caller. */
const char *spebroker_lease_get_vm_origin(const struct spebroker_lease *lease);

/* The SPU's name; empty while queued for no one instance. */
const char *spebroker_lease_get_instance(const struct spebroker_lease *lease);

/*
 * The SPU's perf PMU type: KVM_ARM_VCPU_SPE_SPU. -1 while there is none: queued, or none of the CPUs can be
 * used, as their SPU is gone or they are off line; do not enable SPE then, and wait for "restored". It
 * changes when the driver is reloaded: never store it.
 */
int spebroker_lease_get_pmu_type(const struct spebroker_lease *lease);

/*
 * Keep all VCPU threads on these host CPUs; a kernel cpulist, never empty. They follow what is on line, so
 * look again at every change; while none can be used (see the PMU type) they stay what they were.
 */
const char *spebroker_lease_get_cpus(const struct spebroker_lease *lease);

/*
 * The same for sched_setaffinity(): fills the @size bytes at @set. -ERANGE, and nothing is written, if a CPU
 * does not fit; -EINVAL if @size is not one that CPU_ALLOC_SIZE() gives, see CPU_ALLOC(3).
 */
int spebroker_lease_get_cpu_set(const struct spebroker_lease *lease, size_t size, cpu_set_t *set);

/* Number of VCPUs. */
unsigned int spebroker_lease_get_vcpus(const struct spebroker_lease *lease);

/* Bytes of buffer per VCPU: KVM_ARM_VCPU_MAX_BUFFER_SIZE. Never 0. */
uint64_t spebroker_lease_get_buffer_size(const struct spebroker_lease *lease);

/* What was asked for, in bytes, defaults filled in. */
uint64_t spebroker_lease_get_requested_buffer_size(const struct spebroker_lease *lease);

/* The limit that made the buffer smaller than asked; NULL if none did. */
const char *spebroker_lease_get_limited_by(const struct spebroker_lease *lease);

/* Host bytes that the lease may pin, of all VCPUs together. */
uint64_t spebroker_lease_get_charge(const struct spebroker_lease *lease);

/* Bytes that RLIMIT_MEMLOCK must allow for this lease beyond what the VMM locks otherwise. */
uint64_t spebroker_lease_get_memlock_bytes(const struct spebroker_lease *lease);

/*
 * What the broker did about that: applied, already_enough, unlimited, and all is well; no_capability,
 * unmanaged: it did nothing, raise the limit yourself.
 */
const char *spebroker_lease_get_memlock_state(const struct spebroker_lease *lease);

/* The PPI for the VCPUs: KVM_ARM_VCPU_SPE_IRQ. */
int spebroker_lease_get_interrupt(const struct spebroker_lease *lease);

/* exclusive, guest or shared. */
const char *spebroker_lease_get_mode(const struct spebroker_lease *lease);

/*
 * True while somebody may profile on its CPUs who should not: the host, or the guest of a revoked lease.
 * There is nothing that the VMM must do about it.
 */
bool spebroker_lease_is_contended(const struct spebroker_lease *lease);

/*
 * True while threads that are named as VCPU threads are (see VCPU THREADS in libspebroker(3)) may run on CPUs
 * that are not the lease's, as the broker saw when it looked last. The reason says which, and how to move
 * them.
 */
bool spebroker_lease_is_misplaced(const struct spebroker_lease *lease);

/*
 * True if the SPU is another one now (or did not come back in time) and the VM may have enabled the old one,
 * which KVM does not let it change: start the VM again with a new lease. If it never enabled SPE, release
 * this one and acquire anew.
 */
bool spebroker_lease_is_restart_required(const struct spebroker_lease *lease);

/*
 * The process that the lease belongs to, or the control group, and its user. The pid is -1 where no one
 * process holds it, and may mean another process once the lease has ended; the control group is NULL where
 * one process does.
 */
pid_t spebroker_lease_get_owner_pid(const struct spebroker_lease *lease);
const char *spebroker_lease_get_owner_cgroup(const struct spebroker_lease *lease);
int64_t spebroker_lease_get_owner_uid(const struct spebroker_lease *lease);

/* When it was granted (queued: asked for), in microseconds of CLOCK_REALTIME. */
int64_t spebroker_lease_get_since_usec(const struct spebroker_lease *lease);

/*
 * Microseconds left when this was said: of the wait while queued, of the grace while revoking, until it is
 * revoked while granted without a PMU type, and until its owner is sent the next signal while revoked, if an
 * administrator has it killed. Else -1.
 */
int64_t spebroker_lease_get_remaining_usec(const struct spebroker_lease *lease);

/* --- Decisions --- */

struct spebroker_decision *spebroker_decision_ref(struct spebroker_decision *decision);
struct spebroker_decision *spebroker_decision_unref(struct spebroker_decision *decision);

/* True: spebroker_acquire() would grant the offer now. */
bool spebroker_decision_is_granted(const struct spebroker_decision *decision);

/* What it would grant; NULL if not granted. */
const struct spebroker_offer *spebroker_decision_get_offer(const struct spebroker_decision *decision);

/* The nearest request that would be granted now; NULL if granted, or if there is none. */
const struct spebroker_offer *spebroker_decision_get_counter_offer(const struct spebroker_decision *decision);

/* Every reason against it, in the order of the rules; NULL from the end of the list on. */
const struct spebroker_refusal *spebroker_decision_get_refusal(const struct spebroker_decision *decision,
                                                               size_t index);

/* As for a lease. */
const char *spebroker_offer_get_instance(const struct spebroker_offer *offer);
int spebroker_offer_get_pmu_type(const struct spebroker_offer *offer);
const char *spebroker_offer_get_cpus(const struct spebroker_offer *offer);
uint64_t spebroker_offer_get_buffer_size(const struct spebroker_offer *offer);
uint64_t spebroker_offer_get_charge(const struct spebroker_offer *offer);
const char *spebroker_offer_get_mode(const struct spebroker_offer *offer);
const char *spebroker_offer_get_limited_by(const struct spebroker_offer *offer);

/* --- Checks of the host --- */

struct spebroker_checks *spebroker_checks_ref(struct spebroker_checks *checks);
struct spebroker_checks *spebroker_checks_unref(struct spebroker_checks *checks);

/* Each check, in the order in which it depends on those before it; NULL from the end of the list on. */
const struct spebroker_check *spebroker_checks_get_check(const struct spebroker_checks *checks, size_t index);

/* The one that decides; NULL: nothing is known to be in the way. Of the others some may follow from it. */
const struct spebroker_check *spebroker_checks_get_first_failed(const struct spebroker_checks *checks);

/* "driver-loaded": what was looked at, see spe-broker(8). */
const char *spebroker_check_get_name(const struct spebroker_check *check);

/* ok, warning, failed, unknown, or a word of a newer broker. */
const char *spebroker_check_get_status(const struct spebroker_check *check);

/* What was found, in a sentence. */
const char *spebroker_check_get_reason(const struct spebroker_check *check);

/* What to do about it, in one line. NULL: nothing; if it failed: this host cannot. */
const char *spebroker_check_get_advice(const struct spebroker_check *check);

/* --- Refusals --- */

/* "Busy": the error's name without its interface. */
const char *spebroker_refusal_get_name(const struct spebroker_refusal *refusal);

/* "io.spebroker.Broker.Busy". */
const char *spebroker_refusal_get_error(const struct spebroker_refusal *refusal);

/* One sentence for people, on one line, with a '?' for each character that a terminal would obey. */
const char *spebroker_refusal_get_message(const struct spebroker_refusal *refusal);

/*
 * The error's fields, by the names that Refusal in io.spebroker.Broker(7) gives them: "instance", "state",
 * "reason", "cpus", "owner", "assignedVm", "limit" are strings, "requested", "available", "nearest" are
 * integers; further "parameter" (InvalidParameter), "leaseId" (NoSuchLease), "pid" (NoSuchProcess, an
 * integer). NULL, or false, where this refusal has no such field.
 */
const char *spebroker_refusal_get_string(const struct spebroker_refusal *refusal, const char *field);
bool spebroker_refusal_get_integer(const struct spebroker_refusal *refusal, const char *field,
                                   int64_t *ret_value);

/*
 * NoSuchInstance, NoInstanceForCpus: the names of the instances that there are, and their CPUs. NULL from the
 * end of the list on, and for CPUs that are not told.
 */
const char *spebroker_refusal_get_instance_name(const struct spebroker_refusal *refusal, size_t index);
const char *spebroker_refusal_get_instance_cpus(const struct spebroker_refusal *refusal, size_t index);

/* Busy: everybody in the way; NULL from the end of the list on. None if only an earlier waiter is. */
const struct spebroker_holder *spebroker_refusal_get_holder(const struct spebroker_refusal *refusal,
                                                            size_t index);

/* lease or session. */
const char *spebroker_holder_get_kind(const struct spebroker_holder *holder);

/* The lease and its VM; NULL for a session. */
const char *spebroker_holder_get_lease_id(const struct spebroker_holder *holder);
const char *spebroker_holder_get_vm(const struct spebroker_holder *holder);

/*
 * The process, its user, its command name; -1 and NULL where not known: also of a session for which the
 * kernel refused the broker, and that nobody could be seen to have.
 */
pid_t spebroker_holder_get_pid(const struct spebroker_holder *holder);
int64_t spebroker_holder_get_uid(const struct spebroker_holder *holder);
const char *spebroker_holder_get_command(const struct spebroker_holder *holder);

/* Where it stands in the way; a kernel cpulist. */
const char *spebroker_holder_get_cpus(const struct spebroker_holder *holder);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
