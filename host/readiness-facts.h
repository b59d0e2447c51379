/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The facts of a host that more than one check of its readiness asks for, gathered once. A fact has three
 * answers: what may not be read is not taken for absent.
 */

#include <stdbool.h>

#include "host/device-tree.h"
#include "host/driver-build.h"
#include "host/kernel-messages.h"
#include "host/readiness.h"
#include "util/cpuset.h"

typedef enum Answer {
        ANSWER_UNKNOWN,
        ANSWER_NO,
        ANSWER_YES,
} Answer;

/* How this host's kernel command line is changed. */
typedef enum BootTool {
        BOOT_TOOL_UNKNOWN,
        BOOT_TOOL_GRUBBY,      /* Fedora and its kin */
        BOOT_TOOL_UPDATE_GRUB, /* Debian and its kin */
} BootTool;

/* Who describes the hardware to the kernel. */
typedef enum Firmware {
        FIRMWARE_UNKNOWN,
        FIRMWARE_ACPI,
        FIRMWARE_DEVICE_TREE,
} Firmware;

/* What a device tree calls an SPU. */
#define SPE_COMPATIBLE "arm,statistical-profiling-extension-v1"

#define FACT_TEXT_MAX         128U
#define FACT_COMMAND_LINE_MAX 4096U

typedef struct HostFacts {
        int root_fd;
        Answer arm64;
        char architecture[FACT_TEXT_MAX]; /* as the kernel names it, if arm64 is no */
        char release[FACT_TEXT_MAX];      /* of the kernel; empty if unknown */
        char distribution[FACT_TEXT_MAX]; /* os-release's ID; empty if unknown */
        const char *hypervisor;           /* that this host is a virtual machine of; NULL: none is known of */
        BootTool boot_tool;
        bool command_line_known;
        char command_line[FACT_COMMAND_LINE_MAX];
        char *config; /* of the kernel, or NULL */
        DriverBuild build;
        Firmware firmware;
        DeviceTreeNodes nodes; /* of a device tree: those that describe SPE */
        Answer device;         /* whether the kernel has, or will make, a device for the driver */
        KernelMessages log;

        /* Of the topology: the first ready instance, and the CPUs of all ready ones. */
        const Spu *ready;
        CpuSet ready_cpus;
        const Spu *partial; /* the first that is not ready */
} HostFacts;

/* Only -ENOMEM and the like fail. */
int host_facts_gather(const ReadinessInput *input, HostFacts *ret_facts);
void host_facts_deinit(HostFacts *facts);

/* Whether there is something at @path below the root. */
Answer host_facts_exists(const HostFacts *facts, const char *path);

/*
 * Reads a file of one line at @path, made printable, into @buffer. Returns 0, an outcome of util/fs.h, or
 * -errno.
 */
int host_facts_line(const HostFacts *facts, const char *path, char *buffer, size_t size);

/* Whether the kernel's command line has "@name=@value" as the last word on @name. */
bool host_facts_argument(const HostFacts *facts, const char *name, const char *value);

/* Replaces all that is not printable ASCII. */
void host_facts_sanitize(char *text);
