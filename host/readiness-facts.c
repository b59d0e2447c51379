/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The facts that several checks share. All of them are files below the root directory, read as an
 * unprivileged user can, each within a bound; whatever is in them is hostile until it is compared or made
 * printable.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "host/device-tree.h"
#include "host/readiness-facts.h"
#include "util/fs.h"

/* 4,096 CPUs with all their flags. */
#define CPUINFO_MAX (16U << 20)

#define PLATFORM_DEVICES "sys/bus/platform/devices"
#define ACPI_DEVICE      "arm,spe-v1"

/* The first of a machine's names that one of these rows fits tells whose guest it is. */
static const struct {
        const char *vendor;
        const char *product;
        const char *unless; /* the product of the same vendor's bare metal */
        const char *name;
} machines[] = {
        {"QEMU", "", NULL, "QEMU"},
        {"Amazon EC2", "", ".metal", "Amazon EC2"},
        {"Microsoft Corporation", "Virtual Machine", NULL, "Hyper-V"},
        {"VMware", "", NULL, "VMware"},
        {"Apple Inc.", "Apple Virtualization", NULL, "Apple's Virtualization"},
        {"Parallels", "", NULL, "Parallels"},
        {"Xen", "", NULL, "Xen"},
        {"", "KVM Virtual Machine", NULL, "KVM"},
};

void host_facts_sanitize(char *text) {
        for (; *text; text++)
                if (*text < ' ' || *text > '~')
                        *text = '?';
}

Answer host_facts_exists(const HostFacts *facts, const char *path) {
        if (faccessat(facts->root_fd, path, F_OK, 0) == 0)
                return ANSWER_YES;
        return errno == ENOENT || errno == ENOTDIR ? ANSWER_NO : ANSWER_UNKNOWN;
}

int host_facts_line(const HostFacts *facts, const char *path, char *buffer, size_t size) {
        size_t n;
        int r;

        r = fs_read_line(facts->root_fd, path, buffer, size, &n);
        if (r == 0)
                host_facts_sanitize(buffer);
        return r;
}

/* What cannot be read leaves @buffer empty. */
static int read_optional(const HostFacts *facts, const char *path, char *buffer, size_t size) {
        int r;

        r = host_facts_line(facts, path, buffer, size);
        if (r != 0)
                buffer[0] = '\0';
        return r < 0 ? r : 0;
}

static int gather_architecture(HostFacts *facts) {
        _cleanup_(freep) char *cpuinfo = NULL;
        char name[FACT_TEXT_MAX];
        size_t n;
        int r;

        r = read_optional(facts, "proc/sys/kernel/arch", name, sizeof(name)); /* since 6.1 */
        if (r < 0)
                return r;
        if (name[0] != '\0') {
                facts->arm64 = strcmp(name, "aarch64") == 0 ? ANSWER_YES : ANSWER_NO;
                (void)snprintf(facts->architecture, sizeof(facts->architecture), "%s", name);
                return 0;
        }

        /* Older ones: where there is the first CPU's number, and whose it is. */
        if (host_facts_exists(facts, "sys/devices/system/cpu/cpu0/regs/identification/midr_el1") ==
            ANSWER_YES) {
                facts->arm64 = ANSWER_YES;
                return 0;
        }
        r = fs_read_all(facts->root_fd, "proc/cpuinfo", CPUINFO_MAX, &cpuinfo, &n);
        if (r < 0)
                return r;
        if (r == 0 && strstr(cpuinfo, "CPU implementer"))
                facts->arm64 = ANSWER_YES;
        else if (r == 0 && strstr(cpuinfo, "vendor_id")) {
                facts->arm64 = ANSWER_NO;
                (void)snprintf(facts->architecture, sizeof(facts->architecture), "x86");
        }
        return 0;
}

static int gather_hypervisor(HostFacts *facts) {
        char vendor[FACT_TEXT_MAX], product[FACT_TEXT_MAX], type[FACT_TEXT_MAX];
        bool dummy_virt;
        int r;

        r = read_optional(facts, "sys/class/dmi/id/sys_vendor", vendor, sizeof(vendor));
        if (r == 0)
                r = read_optional(facts, "sys/class/dmi/id/product_name", product, sizeof(product));
        if (r == 0)
                r = read_optional(facts, "sys/hypervisor/type", type, sizeof(type));
        if (r < 0)
                return r;

        if (strcmp(type, "xen") == 0)
                facts->hypervisor = "Xen";
        for (size_t i = 0; !facts->hypervisor && i < ELEMENTS_OF(machines); i++)
                if (vendor[0] != '\0' &&
                    strncmp(vendor, machines[i].vendor, strlen(machines[i].vendor)) == 0 &&
                    strncmp(product, machines[i].product, strlen(machines[i].product)) == 0 &&
                    !(machines[i].unless && strstr(product, machines[i].unless)))
                        facts->hypervisor = machines[i].name;

        /* What QEMU, kvmtool, crosvm and Firecracker call their machines. */
        r = device_tree_machine_is(facts->root_fd, "linux,dummy-virt", &dummy_virt);
        if (r < 0)
                return r;
        if (!facts->hypervisor && dummy_virt)
                facts->hypervisor = "KVM or QEMU";
        return 0;
}

static int gather_distribution(HostFacts *facts) {
        char text[16384], *line, *rest = text;
        size_t n;
        int r;

        r = fs_read(facts->root_fd, "etc/os-release", text, sizeof(text), &n);
        if (r != 0)
                return r < 0 ? r : 0;
        while ((line = strsep(&rest, "\n"))) {
                if (strncmp(line, "ID=", 3) != 0)
                        continue;
                line += 3;
                line += strspn(line, "\"'");
                line[strcspn(line, "\"'")] = '\0';
                host_facts_sanitize(line);
                (void)snprintf(facts->distribution, sizeof(facts->distribution), "%s", line);
        }
        return 0;
}

static int gather_kernel(const Topology *topology, HostFacts *facts) {
        int r;

        r = host_facts_line(facts, "proc/cmdline", facts->command_line, sizeof(facts->command_line));
        facts->command_line_known = r == 0;
        if (r != 0)
                facts->command_line[0] = '\0';
        if (r >= 0)
                r = read_optional(facts, "proc/sys/kernel/osrelease", facts->release, sizeof(facts->release));
        if (r < 0)
                return r;

        /* It becomes part of paths. */
        if (strchr(facts->release, '/') || facts->release[0] == '.')
                facts->release[0] = '\0';
        r = kernel_config_read(facts->root_fd, facts->release, &facts->config);
        if (r < 0)
                return r;
        return driver_build_find(facts->root_fd, facts->release, facts->config, topology->driver,
                                 &facts->build);
}

/* With ACPI, the device is made at boot, if the driver is built, of what the MADT says. */
static void gather_acpi(HostFacts *facts) {
        facts->firmware = FIRMWARE_ACPI;
        facts->device = host_facts_exists(facts, PLATFORM_DEVICES "/" ACPI_DEVICE);
        if (facts->device == ANSWER_NO &&
            (host_facts_exists(facts, PLATFORM_DEVICES) != ANSWER_YES || facts->build < DRIVER_BUILD_MISSING))
                facts->device = ANSWER_UNKNOWN;
}

static int gather_firmware(HostFacts *facts) {
        int r;

        if (host_facts_exists(facts, "sys/firmware/acpi/tables") == ANSWER_YES) {
                gather_acpi(facts);
                return 0;
        }
        if (host_facts_exists(facts, DEVICE_TREE_PATH) != ANSWER_YES)
                return 0;
        facts->firmware = FIRMWARE_DEVICE_TREE;
        r = device_tree_find(facts->root_fd, SPE_COMPATIBLE, &facts->nodes);
        if (r < 0)
                return r;
        host_facts_sanitize(facts->nodes.first);
        if (facts->nodes.n > facts->nodes.n_disabled)
                facts->device = ANSWER_YES;
        else if (!facts->nodes.partly)
                facts->device = ANSWER_NO;
        return 0;
}

static void gather_topology(const Topology *topology, HostFacts *facts) {
        for (size_t i = 0; i < topology->n_spus; i++) {
                const Spu *spu = &topology->spus[i];

                if (!spu->ready) {
                        facts->partial = facts->partial ?: spu;
                        continue;
                }
                facts->ready = facts->ready ?: spu;
                cpuset_or(&facts->ready_cpus, &spu->cpus);
        }
}

int host_facts_gather(const ReadinessInput *input, HostFacts *ret_facts) {
        HostFacts facts = {.root_fd = input->root_fd};
        int r;

        gather_topology(input->topology, &facts);
        if (host_facts_exists(&facts, "usr/sbin/grubby") == ANSWER_YES)
                facts.boot_tool = BOOT_TOOL_GRUBBY;
        else if (host_facts_exists(&facts, "usr/sbin/update-grub") == ANSWER_YES)
                facts.boot_tool = BOOT_TOOL_UPDATE_GRUB;

        r = gather_architecture(&facts);
        if (r == 0)
                r = gather_hypervisor(&facts);
        if (r == 0)
                r = gather_distribution(&facts);
        if (r == 0)
                r = gather_kernel(input->topology, &facts);
        if (r == 0 && !facts.ready)
                r = gather_firmware(&facts);
        if (r == 0)
                r = kernel_messages_read(input->root_fd, input->foreign, &facts.log);
        if (r < 0) {
                host_facts_deinit(&facts);
                return r;
        }

        *ret_facts = facts;
        return 0;
}

void host_facts_deinit(HostFacts *facts) {
        free(facts->config);
        facts->config = NULL;
}

/* To the kernel, '-' and '_' are one in a parameter's name. */
static bool same_name(const char *word, const char *name, size_t n) {
        for (size_t i = 0; i < n; i++)
                if ((word[i] == '-' ? '_' : word[i]) != (name[i] == '-' ? '_' : name[i]))
                        return false;
        return true;
}

bool host_facts_argument(const HostFacts *facts, const char *name, const char *value) {
        size_t n = strlen(name);
        bool found = false;

        for (const char *p = facts->command_line; *p;) {
                size_t length = strcspn(p, " ");

                if (length > n && p[n] == '=' && same_name(p, name, n))
                        found = length - n - 1 == strlen(value) &&
                                strncmp(p + n + 1, value, length - n - 1) == 0;
                p += length;
                p += strspn(p, " ");
        }
        return found;
}
