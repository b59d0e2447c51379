/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Uevents. The parser is a table of what matters, over the few keys that the kernel itself writes: those come
 * first in a message, so the first of a name is believed, and a driver's own keys behind them change nothing.
 *
 * The invariant of the monitor: a change of the host is either told by the kinds of a message, or all kinds
 * are told, after the loss of that message. When the socket's buffer is full, the kernel reports it once
 * (ENOBUFS) and then drops in silence until the queue has been emptied; so a loss is told again with every
 * batch until that has been seen.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include "host/uevent.h"
#include "util/fs.h"

/* The kernel's multicast group; udevd's is 2. */
#define KERNEL_GROUP 1

/* What the socket may hold, as far as net.core.rmem_max lets it. A loss costs no more than a rescan. */
#define RECEIVE_BUFFER_SIZE (4 * 1024 * 1024)

/* Some milliseconds' worth: between two batches others have their turn. */
#define BATCH_MAX 256U

#define MODALIAS_OF_SPE "statistical-profiling-extension"
#define NAME_OF_SPE     "arm,spe-v1"

/* How many there are in /proc/PID/uid_map. */
#define ALL_USERS "4294967295"

#define UEVENT_ALL (UEVENT_TOPOLOGY | UEVENT_KVM)

struct UeventMonitor {
        struct nl_sock *socket;
        bool lossy; /* something was lost, and the queue has not been empty since */
};

/* The keys that we look at; what is not there is "". */
typedef struct Uevent {
        const char *action;
        const char *devpath;
        const char *subsystem;
        const char *driver;
        const char *modalias;
        const char *event;
} Uevent;

static bool has_prefix(const char *text, const char *prefix) {
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *last_component(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static bool is_one_of(const char *word, const char *const *words) {
        for (; *words; words++)
                if (strcmp(word, *words) == 0)
                        return true;
        return false;
}

/* A CPU comes or goes; 'change' and the like do not say so. */
static unsigned kinds_of_cpu(const Uevent *uevent) {
        static const char *const actions[] = {"add", "remove", "online", "offline", NULL};

        return is_one_of(uevent->action, actions) ? UEVENT_TOPOLOGY : 0;
}

static unsigned kinds_of_event_source(const Uevent *uevent) {
        return has_prefix(last_component(uevent->devpath), "arm_spe_") ? UEVENT_TOPOLOGY | UEVENT_KVM : 0;
}

static unsigned kinds_of_module(const Uevent *uevent) {
        const char *name = last_component(uevent->devpath);

        if (strcmp(name, "arm_spe_pmu") == 0)
                return UEVENT_TOPOLOGY | UEVENT_KVM;
        return has_prefix(name, "kvm") ? UEVENT_KVM : 0;
}

static unsigned kinds_of_driver(const Uevent *uevent) {
        return strcmp(last_component(uevent->devpath), "arm_spe_pmu") == 0 ? UEVENT_TOPOLOGY | UEVENT_KVM : 0;
}

/* The device that the driver binds to: described by ACPI (a name) or by the device tree (compatible). An
 * unbind tells no driver any more. */
static unsigned kinds_of_platform(const Uevent *uevent) {
        return strcmp(uevent->driver, "arm_spe_pmu") == 0 || strstr(uevent->modalias, MODALIAS_OF_SPE) ||
                               strstr(uevent->modalias, NAME_OF_SPE)
                       ? UEVENT_TOPOLOGY | UEVENT_KVM
                       : 0;
}

/* /dev/kvm itself, or a VM of which it tells. */
static unsigned kinds_of_misc(const Uevent *uevent) {
        static const char *const events[] = {"create", "destroy", NULL};

        if (strcmp(last_component(uevent->devpath), "kvm") != 0)
                return 0;
        if (strcmp(uevent->action, "change") == 0 && is_one_of(uevent->event, events))
                return UEVENT_VM;
        return UEVENT_KVM;
}

static unsigned kinds_of(const Uevent *uevent) {
        static const struct {
                const char *subsystem;
                unsigned (*kinds)(const Uevent *uevent);
        } rules[] = {
                {"cpu", kinds_of_cpu},           {"event_source", kinds_of_event_source},
                {"module", kinds_of_module},     {"drivers", kinds_of_driver},
                {"platform", kinds_of_platform}, {"misc", kinds_of_misc},
        };

        for (size_t i = 0; i < ELEMENTS_OF(rules); i++)
                if (strcmp(uevent->subsystem, rules[i].subsystem) == 0)
                        return rules[i].kinds(uevent);
        return 0;
}

/* Keeps @text, "KEY=VALUE", if we look at that key and have none yet. False if it is no such text. */
static bool take_key(Uevent *uevent, const char *text) {
        const struct {
                const char *key;
                const char **value;
        } keys[] = {
                {"ACTION=", &uevent->action},       {"DEVPATH=", &uevent->devpath},
                {"SUBSYSTEM=", &uevent->subsystem}, {"DRIVER=", &uevent->driver},
                {"MODALIAS=", &uevent->modalias},   {"EVENT=", &uevent->event},
        };
        const char *equals = strchr(text, '=');

        if (!equals || equals == text)
                return false;
        for (size_t i = 0; i < ELEMENTS_OF(keys); i++)
                if (!*keys[i].value && has_prefix(text, keys[i].key))
                        *keys[i].value = equals + 1;
        return true;
}

int uevent_parse(const char *message, size_t n, unsigned *ret_kinds) {
        const char *end = message + n, *text = message;
        Uevent uevent = {0};

        if (n == 0 || n > UEVENT_SIZE_MAX || end[-1] != '\0' || !strchr(text, '@'))
                return UEVENT_E_MALFORMED;

        while ((text += strlen(text) + 1) < end)
                if (!take_key(&uevent, text))
                        return UEVENT_E_MALFORMED;
        /* The kernel begins every one with these three. */
        if (!uevent.action || !uevent.devpath || !uevent.subsystem)
                return UEVENT_E_MALFORMED;

        uevent.driver = uevent.driver ?: "";
        uevent.modalias = uevent.modalias ?: "";
        uevent.event = uevent.event ?: "";
        *ret_kinds = kinds_of(&uevent);
        return 0;
}

static void close_socket(struct nl_sock **socket) {
        if (*socket)
                nl_socket_free(*socket);
}

/* Credentials before the group: no message comes without them. A size of messages keeps libnl from looking at
 * each one first, to make room for it however large it is. */
static int subscribe(struct nl_sock *socket) {
        int r;

        r = nl_connect(socket, NETLINK_KOBJECT_UEVENT);
        if (r == 0)
                r = nl_socket_set_passcred(socket, 1);
        if (r == 0)
                r = nl_socket_set_nonblocking(socket);
        if (r == 0)
                r = nl_socket_set_buffer_size(socket, RECEIVE_BUFFER_SIZE, 0);
        if (r == 0)
                r = nl_socket_set_msg_buf_size(socket, UEVENT_SIZE_MAX);
        if (r == 0)
                r = nl_socket_add_membership(socket, KERNEL_GROUP);
        return r;
}

/* Only there the kernel's uevents come, and are root's. All users map to themselves in it. */
static bool is_initial_user_namespace(void) {
        char map[128];
        size_t n;
        int r;

        r = fs_read_line(AT_FDCWD, "/proc/self/uid_map", map, sizeof(map), &n);
        return r == 0 ? strstr(map, ALL_USERS) != NULL : r == FS_E_NOT_FOUND;
}

int uevent_monitor_new(UeventMonitor **ret_monitor, const char **ret_reason) {
        _cleanup_(close_socket) struct nl_sock *socket = NULL;
        UeventMonitor *monitor;
        int r;

        if (!is_initial_user_namespace()) {
                *ret_reason = "the kernel sends none to user namespaces";
                return UEVENT_E_UNAVAILABLE;
        }

        socket = nl_socket_alloc();
        if (!socket)
                return -ENOMEM;
        r = subscribe(socket);
        if (r < 0) {
                *ret_reason = nl_geterror(r);
                return UEVENT_E_UNAVAILABLE;
        }

        monitor = malloc(sizeof(*monitor));
        if (!monitor)
                return -ENOMEM;
        *monitor = (UeventMonitor){.socket = steal_ptr(socket)};
        *ret_monitor = monitor;
        return 0;
}

UeventMonitor *uevent_monitor_free(UeventMonitor *monitor) {
        if (!monitor)
                return NULL;

        nl_socket_free(monitor->socket);
        free(monitor);
        return NULL;
}

int uevent_monitor_fd(const UeventMonitor *monitor) {
        return nl_socket_get_fd(monitor->socket);
}

/* Nobody else can have port 0; but root's messages that the kernel passes on have it, too, and they come with
 * the process that sent them. */
static bool is_address_of_kernel(const struct sockaddr_nl *sender) {
        return sender->nl_pid == 0 && sender->nl_groups == 1U << (KERNEL_GROUP - 1);
}

static bool is_kernel(const struct sockaddr_nl *sender, const struct ucred *credentials) {
        return is_address_of_kernel(sender) && credentials && credentials->uid == 0 && credentials->pid == 0;
}

static void count_loss(UeventMonitor *monitor, UeventNews *news) {
        monitor->lossy = true;
        news->n_lost++;
}

static void take_message(UeventMonitor *monitor, const unsigned char *message, size_t n, UeventNews *news) {
        unsigned kinds;

        if (uevent_parse((const char *)message, n, &kinds)) {
                count_loss(monitor, news);
                return;
        }

        news->kinds |= kinds;
        news->n_host += (kinds & UEVENT_ALL) != 0;
        news->n_vms += (kinds & UEVENT_VM) != 0;
}

/* Receives one message. False if there is no more to be had now. */
static bool receive_one(UeventMonitor *monitor, UeventNews *news) {
        _cleanup_(freep) unsigned char *message = NULL;
        _cleanup_(freep) struct ucred *credentials = NULL;
        struct sockaddr_nl sender = {0};
        int n;

        n = nl_recv(monitor->socket, &sender, &message, &credentials);
        if (n == -NLE_AGAIN) {
                news->kinds |= monitor->lossy ? UEVENT_ALL : 0;
                monitor->lossy = false;
                return false;
        }
        if (n == -NLE_MSG_TRUNC && is_address_of_kernel(&sender)) {
                count_loss(monitor, news);
                return true;
        }
        if (n < 0 &&
            n != -NLE_MSG_TRUNC) { /* ENOBUFS, or no memory for the message: libnl tells both alike */
                count_loss(monitor, news);
                return false;
        }
        if (n <= 0 || !is_kernel(&sender, credentials)) {
                news->n_spoofed++;
                return true;
        }

        take_message(monitor, message, (size_t)n, news);
        return true;
}

void uevent_monitor_receive(UeventMonitor *monitor, UeventNews *ret_news) {
        UeventNews news = {0};

        for (unsigned i = 0; i < BATCH_MAX && receive_one(monitor, &news); i++)
                ;
        if (monitor->lossy)
                news.kinds |= UEVENT_ALL;

        *ret_news = news;
}
