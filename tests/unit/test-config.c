/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "tests/unit/config.h"

static void test_defaults(void **state) {
        _cleanup_(config_freep) Config *config = NULL;
        const Tree *tree = *state;

        put_memory(tree);
        config = load(tree);
        assert_int_equal(config->default_owner, ASSIGNMENT_OWNER_ANY);
        assert_int_equal(config->default_mode, LEASE_MODE_GUEST);
        assert_int_equal(config->revoke_grace_usec, 10000000);
        assert_int_equal(config->gone_grace_usec, 60000000);
        assert_int_equal(config->level, CONFIG_LEVEL_AUTO);
        assert_int_equal(config->gate, CONFIG_GATE_AUTO);
        assert_int_equal(config->manage_memlock, CONFIG_SWITCH_YES_BY_DEFAULT);
        assert_true(config->read_group.everyone);
        assert_false(config->acquire_group.everyone);
        assert_false(config->orchestrator_group.everyone);
        assert_int_equal(config->orchestrator_group.n, 0);
        assert_int_equal(config->admin_group.n, 0);
        assert_int_equal(config->limits.default_buffer_size, 4 * MIB);
        assert_int_equal(config->limits.max_buffer_size, 64 * MIB);
        assert_int_equal(config->limits.max_memory_per_vm, 2 * GIB);
        assert_int_equal(config->limits.max_memory, 64 * GIB / 100 * 5 + 64 * GIB % 100 * 5 / 100);
        assert_int_equal(config->limits.max_memory_per_user, config->limits.max_memory);
        assert_int_equal(config->limits.max_leases, 4096);
        assert_int_equal(config->limits.max_leases_per_user, 1024);
        assert_int_equal(config->limits.n_overrides, 0);
        assert_int_equal(config->limits.host_page_size, sysconf(_SC_PAGESIZE));
        assert_int_equal(config->max_connections, 4096);
        assert_int_equal(config->max_connections_per_user, 2176);
        assert_int_equal(config->n_assignments, 0);
        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++)
                assert_int_equal(config->kvm_numbers[i], KVM_NUMBER_UNSET);

        /* Also where there is no group kvm: it is only the default. */
        assert_string_equal(warnings, "");
}

static void test_every_key(void **state) {
        _cleanup_(config_freep) Config *config = NULL;
        const Tree *tree = *state;
        const ConfigAssignment *a;
        const LimitOverride *o;
        char cpus[CPUSET_TEXT_MAX];

        config = load_text(tree, "# a comment\n"
                                 "; another\n"
                                 "[Policy]\n"
                                 "DefaultOwner = host\n"
                                 "DefaultMode=exclusive\n"
                                 "RevokeGraceSec=1min 30s\n"
                                 "GoneGraceSec=0\n"
                                 "ReadGroup=root, 7\n"
                                 "OrchestratorGroup=1 2,3\n"
                                 "AdminGroup=4294967294\n"
                                 "\n"
                                 "[Limits]\n"
                                 "DefaultBufferSize=1M\n"
                                 "MaxBufferSize=5000K\n"
                                 "MaxMemoryPerVM=1G\n"
                                 "MaxMemoryPerUser=50%\n"
                                 "MaxMemory=100%\n"
                                 "MaxLeases=1\n"
                                 "MaxLeasesPerUser=1048576\n"
                                 "MaxConnections=3\n"
                                 "MaxConnectionsPerUser=4\n"
                                 "[Arbitration]\n"
                                 "Level=reserve\n"
                                 "Gate=enforce\n"
                                 "[Memlock]\n"
                                 "Manage=no\n"
                                 "[KVM]\n"
                                 "Capability=300\n"
                                 "Feature=223\n"
                                 "Group=65535\n"
                                 "AttributeIrq=0\n"
                                 "AttributeSpu=2\n"
                                 "AttributeMaxBufferSize=\n"
                                 "AttributeInit=1\n"
                                 "[Assignment web.one]\n"
                                 "Cpus=0-3,8\n"
                                 "Owner=guest\n"
                                 "Vm=web 1\n"
                                 "[Assignment the profiler's CPUs]\n"
                                 "Instance=arm_spe_1\n"
                                 "Owner=host\n"
                                 "[VM a;b#c=d]\n"
                                 "MaxBufferSize=1M\n"
                                 "MaxMemory=25%\n"
                                 "[User 1000]\n"
                                 "MaxMemory=3G\n"
                                 "[User root]\n"
                                 "MaxBufferSize=8K\n");
        assert_string_equal(warnings, "");
        assert_int_equal(config->default_owner, ASSIGNMENT_OWNER_HOST);
        assert_int_equal(config->default_mode, LEASE_MODE_EXCLUSIVE);
        assert_int_equal(config->revoke_grace_usec, 90000000);
        assert_int_equal(config->gone_grace_usec, 0);
        assert_false(config->read_group.everyone);
        assert_int_equal(config->read_group.n, 2);
        assert_int_equal(config->read_group.gids[0], 0);
        assert_int_equal(config->read_group.gids[1], 7);
        assert_int_equal(config->acquire_group.n, 0);
        assert_int_equal(config->orchestrator_group.n, 3);
        assert_int_equal(config->orchestrator_group.gids[2], 3);
        assert_int_equal(config->admin_group.gids[0], UINT32_MAX - 1);
        assert_int_equal(config->limits.default_buffer_size, MIB);
        assert_int_equal(config->limits.max_buffer_size, 5000 * 1024);
        assert_int_equal(config->limits.max_memory_per_vm, GIB);
        assert_int_equal(config->limits.max_memory_per_user, 32 * GIB);
        assert_int_equal(config->limits.max_memory, 64 * GIB);
        assert_int_equal(config->limits.max_leases, 1);
        assert_int_equal(config->limits.max_leases_per_user, 1048576);
        assert_int_equal(config->max_connections, 3);
        assert_int_equal(config->max_connections_per_user, 4);
        assert_int_equal(config->level, ARBITRATION_LEVEL_RESERVE);
        assert_int_equal(config->gate, GATE_LEVEL_ENFORCE);
        assert_int_equal(config->manage_memlock, CONFIG_SWITCH_NO);
        assert_memory_equal(config->kvm_numbers, ((int64_t[]){300, 223, 65535, 0, 2, KVM_NUMBER_UNSET, 1}),
                            sizeof(config->kvm_numbers));

        assert_int_equal(config->n_assignments, 2);
        a = &config->assignments[0];
        assert_string_equal(a->name, "web.one");
        assert_true(a->has_cpus);
        (void)cpuset_format(&a->cpus, cpus, sizeof(cpus));
        assert_string_equal(cpus, "0-3,8");
        assert_null(a->instance);
        assert_int_equal(a->owner, ASSIGNMENT_OWNER_GUEST);
        assert_string_equal(a->vm, "web 1");
        assert_string_equal(a->file, "/" CONF);
        assert_int_equal(a->line, 35);
        a = &config->assignments[1];
        assert_string_equal(a->name, "the profiler's CPUs");
        assert_false(a->has_cpus);
        assert_string_equal(a->instance, "arm_spe_1");
        assert_int_equal(a->owner, ASSIGNMENT_OWNER_HOST);
        assert_null(a->vm);

        assert_int_equal(config->limits.n_overrides, 3);
        o = config->limits.overrides;
        assert_string_equal(o[0].vm, "a;b#c=d");
        assert_int_equal(o[0].max_buffer_size, MIB);
        assert_int_equal(o[0].max_memory, 16 * GIB);
        assert_null(o[1].vm);
        assert_int_equal(o[1].uid, 1000);
        assert_int_equal(o[1].max_buffer_size, 0);
        assert_int_equal(o[1].max_memory, 3 * GIB);
        assert_int_equal(o[2].uid, 0);
        assert_int_equal(o[2].max_buffer_size, 8192);
}

static void test_dropins(void **state) {
        _cleanup_(config_freep) Config *config = NULL;
        const Tree *tree = *state;

        tree_put(tree, DROPIN "90-last.conf", "[limits]\nmaxleases=90\n[Assignment b]\nOwner=none\nVm=\n");
        tree_put(tree, DROPIN "10-first.conf",
                 "[Limits]\nMaxLeases=10\nMaxConnections=10\n[Assignment b]\nVm=one\n[Assignment c]\n"
                 "Cpus=4\nOwner=any\n[VM web]\nMaxMemory=1G\nMaxBufferSize=1M\n");
        tree_put(tree, DROPIN "50-vm.conf", "[VM web]\nMaxMemory=2G\n");
        tree_put(tree, DROPIN "51-vm.conf", "[VM Web]\nMaxMemory=\n[Assignment B]\nCpus=5\nOwner=host\n");
        tree_put(tree, DROPIN "99-not.conf~", "[Limits]\nMaxLeases=99\n");
        tree_put(tree, DROPIN ".99-hidden.conf", "[Limits]\nMaxLeases=99\n");
        tree_put(tree, DROPIN ".conf", "[Limits]\nMaxLeases=99\n");
        config = load_text(tree, "[Limits]\nMaxLeases=1\nMaxLeasesPerUser=1\n[Assignment b]\nCpus=0-3\n"
                                 "Owner=guest\n");
        assert_string_equal(warnings, "");
        assert_int_equal(config->limits.max_leases, 90);
        assert_int_equal(config->limits.max_leases_per_user, 1);
        assert_int_equal(config->max_connections, 10);
        assert_int_equal(config->n_assignments, 3);
        assert_string_equal(config->assignments[2].name, "B");
        assert_string_equal(config->assignments[0].name, "b");
        assert_int_equal(config->assignments[0].owner, ASSIGNMENT_OWNER_NONE);
        assert_int_equal(cpuset_count(&config->assignments[0].cpus), 4);
        assert_null(config->assignments[0].vm);
        assert_string_equal(config->assignments[1].name, "c");
        assert_string_equal(config->assignments[1].file, "/" DROPIN "10-first.conf");
        assert_int_equal(config->assignments[1].line, 6);
        assert_int_equal(config->limits.n_overrides, 2);
        assert_string_equal(config->limits.overrides[0].vm, "web");
        assert_int_equal(config->limits.overrides[0].max_memory, 2 * GIB);
        assert_int_equal(config->limits.overrides[0].max_buffer_size, MIB);
        assert_string_equal(config->limits.overrides[1].vm, "Web");
        assert_int_equal(config->limits.overrides[1].max_memory, 0);
}

/* A file of one's own, with its own drop-ins: it must be there. */
static void test_path(void **state) {
        _cleanup_(config_fault_deinit) ConfigFault fault = CONFIG_FAULT_NULL;
        _cleanup_(config_freep) Config *config = NULL, *none = NULL;
        const Tree *tree = *state;
        char path[PATH_MAX];

        put_memory(tree);
        tree_put(tree, CONF, "[Limits]\nMaxLeases=1\n");
        tree_put(tree, "own.conf", "[Limits]\nMaxLeases=2\nMaxConnections=2\n[Policy]\nAcquireGroup=0\n");
        tree_put(tree, "own.conf.d/a.conf", "[Limits]\nMaxConnections=3\n");
        (void)snprintf(path, sizeof(path), "%s/own.conf", tree->path);
        config = load_from(tree, path);
        assert_int_equal(config->limits.max_leases, 2);
        assert_int_equal(config->max_connections, 3);

        tree_unlink(tree, "own.conf");
        assert_int_equal(config_load(tree->fd, tree->fd, path, warn, NULL, &none, &fault), CONFIG_E_INVALID);
        assert_string_equal(fault.file, path);
        assert_string_equal(fault.message, "not there");
        assert_null(none);
}

static void test_bad_values(void **state) {
        static const struct {
                const char *entry;
                const char *why;
        } policy[] =
                {
                        {"DefaultOwner=me", "not an owner (host, guest, any, none)"},
                        {"DefaultOwner=", "not an owner (host, guest, any, none)"},
                        {"DefaultMode=loud", "not a mode (exclusive, guest, shared)"},
                        {"RevokeGraceSec=soon", "not a time (10, 250ms, 1h 30min, ...)"},
                        {"RevokeGraceSec=99999999999999999999", "too long a time (1d at most)"},
                        {"RevokeGraceSec=86401", "too long a time (1d at most)"},
                        {"GoneGraceSec=-1", "not a time (10, 250ms, 1h 30min, ...)"},
                        {"GoneGraceSec=86401", "too long a time (1d at most)"},
                },
          limits[] =
                  {
                          {"MaxBufferSize=lots", "not a size (64M, 2G, ...)"},
                          {"MaxBufferSize=4M # four", "not a size (64M, 2G, ...)"},
                          {"MaxBufferSize=5%", "not a size (64M, 2G, ...)"},
                          {"MaxBufferSize=", "not a size (64M, 2G, ...)"},
                          {"MaxBufferSize=4095", "too small for a buffer (4K at least)"},
                          {"MaxBufferSize=4093T", "too large for a buffer"},
                          {"DefaultBufferSize=5000", "no size that a guest's MaxBuffSize can hold (4K can)"},
                          {"DefaultBufferSize=0", "too small for a buffer (4K at least)"},
                          {"MaxMemory=101%", "out of range (1% to 100%, or a size)"},
                          {"MaxMemory=0", "nothing at all (to keep VMs off, assign the CPUs)"},
                          {"MaxMemory=much", "neither a size (64M, 2G, ...) nor a part of the memory (5%)"},
                          {"MaxMemoryPerVM=", "neither a size (64M, 2G, ...) nor a part of the memory (5%)"},
                          {"MaxLeases=many", "not a number"},
                          {"MaxLeases=-1", "not a number"},
                          {"MaxLeases=0", "out of range (1 to 1048576)"},
                          {"MaxLeases=1048577", "out of range (1 to 1048576)"},
                          {"MaxConnections=18446744073709551616", "out of range (1 to 1048576)"},
                  },
          arbitration[] =
                  {
                          {"Level=high", "not a level (auto, enforce, reserve, observe, none)"},
                          {"Level=", "not a level (auto, enforce, reserve, observe, none)"},
                          {"Gate=reserve", "not a level of the gate (auto, enforce, log, off)"},
                          {"Gate=", "not a level of the gate (auto, enforce, log, off)"},
                  },
          kvm[] =
                  {
                          {"Capability=KVM_CAP_ARM_SPE", "not a number"},
                          {"Capability=-1", "not a number"},
                          {"Group=65536", "out of range (0 to 65535)"},
                          {"AttributeSpu=99999999999999999999", "out of range (0 to 65535)"},
                          {"Feature=224", "out of range (0 to 223)"},
                  },
          assignment[] = {
                  {"Cpus=0-", "not a list of CPUs (0-3,8)"},
                  {"Cpus=4096", "a CPU beyond 4095, the last one supported"},
                  {"Owner=", "not an owner (host, guest, any, none)"},
                  {"Vm=a\tb\x01", "not a VM's name (1 to 255 bytes, no control characters)"},
          };
        const struct {
                const char *section;
                const void *cases;
                size_t n;
        } groups[] = {
                {"Policy", policy, ELEMENTS_OF(policy)},
                {"Limits", limits, ELEMENTS_OF(limits)},
                {"Arbitration", arbitration, ELEMENTS_OF(arbitration)},
                {"KVM", kvm, ELEMENTS_OF(kvm)},
                {"Assignment x", assignment, ELEMENTS_OF(assignment)},
        };
        const Tree *tree = *state;

        for (size_t g = 0; g < ELEMENTS_OF(groups); g++) {
                const struct {
                        const char *entry;
                        const char *why;
                } *cases = groups[g].cases;

                for (size_t i = 0; i < groups[g].n; i++) {
                        char text[256], message[256], *control;

                        (void)snprintf(text, sizeof(text), "[%s]\n\n%s\n", groups[g].section, cases[i].entry);
                        (void)snprintf(message, sizeof(message), "%s: %s", cases[i].entry, cases[i].why);
                        while ((control = strpbrk(message, "\t\x01")))
                                *control = '?';
                        assert_text_fault(tree, text, 3, message);
                }
        }
}

static void test_assignments(void **state) {
        const Tree *tree = *state;
        char vm[300], text[400];

        assert_text_fault(tree, "\n[Assignment x]\nCpus=0\n", 2,
                          "[Assignment x]: Owner= is missing (host, guest, any, none)");
        assert_text_fault(tree, "[Assignment x]\nOwner=any\n", 1,
                          "[Assignment x]: one of Cpus= and Instance= is needed");
        assert_text_fault(tree, "[Assignment x]\nOwner=any\nCpus=\nInstance=\n", 1,
                          "[Assignment x]: one of Cpus= and Instance= is needed");
        assert_text_fault(tree, "[Assignment x]\nOwner=host\nCpus=0\nVm=a\n", 1,
                          "[Assignment x]: Vm= is for Owner=guest and Owner=any only");
        assert_text_fault(tree, "[Assignment x]\nOwner=none\nCpus=0\nVm=a\n", 1,
                          "[Assignment x]: Vm= is for Owner=guest and Owner=any only");
        config_free(load_text(tree, "[Assignment x]\nOwner=any\nCpus=0\nVm=a\n"));
        config_free(load_text(tree, "[Assignment x]\nOwner=none\nInstance=arm_spe_0\nCpus=0\n"));

        memset(vm, 'v', 255);
        vm[255] = '\0';
        (void)snprintf(text, sizeof(text), "[Assignment x]\nOwner=any\nCpus=0\nVm=%s\n", vm);
        config_free(load_text(tree, text));
        (void)snprintf(text, sizeof(text), "[Assignment x]\nOwner=any\nCpus=0\nVm=%sv\n", vm);
        (void)snprintf(vm, sizeof(vm), "Vm=%.68s...: not a VM's name (1 to 255 bytes, no control characters)",
                       strchr(text, 'v'));
        assert_text_fault(tree, text, 4, vm);
}

/* Whether somebody has said so matters where the default is another one. */
static void test_switch(void **state) {
        static const struct {
                const char *text;
                ConfigSwitch value;
        } rows[] = {
                {"[Memlock]\nManage=yes\n", CONFIG_SWITCH_YES},
                {"[Memlock]\nManage=Yes\n", CONFIG_SWITCH_YES},
                {"[Memlock]\nManage=no\n", CONFIG_SWITCH_NO},
                {"[memlock]\nmanage=no\nmanage=yes\n", CONFIG_SWITCH_YES},
        };
        const Tree *tree = *state;

        for (size_t i = 0; i < ELEMENTS_OF(rows); i++) {
                _cleanup_(config_freep) Config *config = load_text(tree, rows[i].text);

                assert_int_equal(config->manage_memlock, rows[i].value);
        }
        assert_text_fault(tree, "[Memlock]\nManage=\n", 2, "Manage=: not a switch (yes, no)");
        assert_text_fault(tree, "[Memlock]\nManage=1\n", 2, "Manage=1: not a switch (yes, no)");
}

static void test_warnings(void **state) {
        _cleanup_(config_freep) Config *config = NULL;
        const Tree *tree = *state;

        config = load_text(tree, "Orphan=1\n"
                                 "MaxLeases=7\n"
                                 "[Limits]\n"
                                 "MaxLeases=1\n"
                                 "MaxLease=2\n"
                                 "MAXLEASES=3\n"
                                 "DefaultBufferSize=128M\n"
                                 "[Memlocks]\n"
                                 "Level=none\n"
                                 "[Assignment]\n"
                                 "Owner=nonsense\n"
                                 "[Limitsx]\n"
                                 "[User no-such-user-here]\n"
                                 "MaxMemory=nonsense\n"
                                 "[Policy]\n"
                                 "ReadGroup=no-such-group-here\n"
                                 "OrchestratorGroup=no-such-group-here 12\n");
        assert_int_equal(config->limits.max_leases, 3);
        assert_int_equal(config->limits.n_overrides, 0);
        /* Nobody, not everybody. */
        assert_false(config->read_group.everyone);
        assert_int_equal(config->read_group.n, 0);
        assert_int_equal(config->orchestrator_group.n, 1);
        assert_int_equal(config->orchestrator_group.gids[0], 12);
        assert_string_equal(warnings,
                            "/" CONF ":1: keys before the first section are ignored\n"
                            "/" CONF ":6: this key stands in its section before: this last one counts\n"
                            "/" CONF ":5: MaxLease=: unknown key in [Limits]\n"
                            "/" CONF ":8: [Memlocks]: unknown section\n"
                            "/" CONF ":10: [Assignment]: unknown section\n"
                            "/" CONF ":12: [Limitsx]: unknown section\n"
                            "/" CONF
                            ":13: [User no-such-user-here] matches nothing on this host: no such user\n"
                            "/" CONF ":16: ReadGroup=: no group no-such-group-here on this host\n"
                            "/" CONF ":17: OrchestratorGroup=: no group no-such-group-here on this host\n"
                            "/" CONF ":0: DefaultBufferSize is above MaxBufferSize, which then holds\n");
}

static void test_memory(void **state) {
        static const char *const unknown[] = {
                NULL,
                "",
                "MemTotal:\n",
                "MemTotal: 64 GB\n",
                "MemTotal: 99999999999999999999999 kB\n",
                "MemTotal: 18446744073709551615 kB\n",
                "MemTotal: 0 kB\n",
                "MemFree: 1024 kB\n",
        };
        const Tree *tree = *state;

        tree_put(tree, CONF, "[Policy]\nAcquireGroup=\n");
        for (size_t i = 0; i < ELEMENTS_OF(unknown); i++) {
                Config *config;

                if (unknown[i])
                        tree_put(tree, "proc/meminfo", unknown[i]);
                config = load(tree);
                assert_int_equal(config->limits.max_memory, 64 * GIB / 100 * 5 + 64 * GIB % 100 * 5 / 100);
                assert_string_equal(
                        warnings, "/proc/meminfo:0: MemTotal cannot be read: percentages are taken of 64G\n");
                config_free(config);
        }

        /* It is not asked where there is no percentage. */
        tree_put(tree, CONF, "[Policy]\nAcquireGroup=\n[Limits]\nMaxMemory=7M\n");
        config_free(load(tree));
        assert_string_equal(warnings, "");
}

/* Each row of the table is a key that the parser knows, in its section. */
static void test_table(void **state) {
        const Tree *tree = *state;
        size_t n = 0;

        for (const ConfigKey *key; (key = config_key(n)); n++) {
                _cleanup_(config_fault_deinit) ConfigFault fault = CONFIG_FAULT_NULL;
                Config *config = NULL;
                char text[256];
                int r;

                assert_non_null(key->default_text);
                (void)snprintf(text, sizeof(text), "[%s]\n%s=%s\n", key->section, key->name,
                               key->default_text);
                tree_put(tree, CONF, text);
                warnings[0] = '\0';
                r = config_load(tree->fd, tree->fd, NULL, warn, NULL, &config, &fault);
                assert_true(r == 0 || strncmp(key->section, "Assignment", strlen("Assignment")) == 0);
                assert_null(strstr(warnings, "unknown"));
                config_free(config);
        }
        assert_int_equal(n, 35);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_defaults, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_every_key, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_dropins, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_path, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_bad_values, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_switch, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_assignments, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_warnings, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_memory, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_table, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
