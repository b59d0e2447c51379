/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Configurations loaded from a tree, with their warnings and faults: for the tests of broker/config*.c. */

#include "broker/config.h"
#include "tests/unit/tree.h"

#define CONF   CONFIG_PATH
#define DROPIN CONFIG_PATH ".d/"
#define MIB    UINT64_C(1048576)
#define GIB    UINT64_C(1073741824)

/* What was warned of, one "FILE:LINE: MESSAGE" a line. */
_unused_ static char warnings[8192];

_unused_ static void warn(const char *file, unsigned line, const char *message, _unused_ void *userdata) {
        size_t n = strlen(warnings);

        (void)snprintf(warnings + n, sizeof(warnings) - n, "%s:%u: %s\n", file, line, message);
}

_unused_ static Config *load_from(const Tree *tree, const char *path) {
        _cleanup_(config_fault_deinit) ConfigFault fault = CONFIG_FAULT_NULL;
        Config *config = NULL;
        int r;

        warnings[0] = '\0';
        r = config_load(tree->fd, tree->fd, path, warn, NULL, &config, &fault);
        if (r)
                print_error("%s:%u: %s\n", fault.file, fault.line, fault.message);
        assert_int_equal(r, 0);
        assert_null(fault.message);
        return config;
}

_unused_ static Config *load(const Tree *tree) {
        return load_from(tree, NULL);
}

_unused_ static void assert_fault(const Tree *tree, const char *file, unsigned line, const char *message) {
        _cleanup_(config_fault_deinit) ConfigFault fault = CONFIG_FAULT_NULL;
        Config *config = NULL;

        assert_int_equal(config_load(tree->fd, tree->fd, NULL, warn, NULL, &config, &fault),
                         CONFIG_E_INVALID);
        assert_null(config);
        assert_string_equal(fault.message, message);
        assert_string_equal(fault.file, file);
        assert_int_equal(fault.line, line);
}

/* The whole file is @text; its fault is on @line. */
_unused_ static void assert_text_fault(const Tree *tree, const char *text, unsigned line,
                                       const char *message) {
        tree_put(tree, CONF, text);
        assert_fault(tree, "/" CONF, line, message);
}

_unused_ static void put_memory(const Tree *tree) {
        tree_put(tree, "proc/meminfo", "MemTotal:       67108864 kB\nMemFree:         1024 kB\n");
}

/* AcquireGroup= because a host need not have the group kvm. */
_unused_ static Config *load_text(const Tree *tree, const char *text) {
        put_memory(tree);
        tree_put(tree, DROPIN "00-group.conf", "[Policy]\nAcquireGroup=\n");
        tree_put(tree, CONF, text);
        return load(tree);
}
