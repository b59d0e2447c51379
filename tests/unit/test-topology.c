/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <sys/resource.h>

#include "host/topology.h"
#include "tests/unit/tree.h"
#include "util/cpuset.h"

#define DEVICES "sys/bus/event_source/devices/"

static void put(const Tree *tree, unsigned index, const char *file, const char *text) {
        char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), DEVICES "arm_spe_%u/%s", index, file);
        tree_put(tree, path, text);
}

static void put_spu(const Tree *tree, unsigned index, unsigned type, const char *cpus) {
        char text[32];

        (void)snprintf(text, sizeof(text), "%u\n", type);
        put(tree, index, "type", text);
        put(tree, index, "cpumask", cpus);
        put(tree, index, "format/ts_enable", "config:0\n");
}

static void put_cpus(const Tree *tree, const char *possible, const char *online) {
        tree_put(tree, "sys/devices/system/cpu/possible", possible);
        tree_put(tree, "sys/devices/system/cpu/online", online);
}

static Topology *scan(const Tree *tree) {
        Topology *topology = NULL;

        assert_int_equal(topology_scan(tree->fd, &topology), 0);
        assert_non_null(topology);
        return topology;
}

static void assert_cpus(const CpuSet *set, const char *expected) {
        char text[CPUSET_TEXT_MAX];

        (void)cpuset_format(set, text, sizeof(text));
        assert_string_equal(text, expected);
}

static const Spu *assert_partial(const Topology *topology, const char *name, const char *problem) {
        const Spu *spu = topology_find(topology, name);

        assert_non_null(spu);
        assert_false(spu->ready);
        assert_non_null(spu->problem);
        assert_string_equal(spu->problem, problem);
        return spu;
}

static const Spu *assert_ready(const Topology *topology, const char *name) {
        const Spu *spu = topology_find(topology, name);

        assert_non_null(spu);
        assert_true(spu->ready);
        return spu;
}

/* As a big.LITTLE kernel shows it: links into devices/platform, newlines, all of caps/, a CPU offline. */
static void test_whole(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        static const char *const names[] = {"arm_spe_0", "arm_spe_10", "arm_spe_2"};
        const Tree *tree = *state;
        const Spu *spu;

        put_cpus(tree, "0-11\n", "0-6,8-11\n");
        for (size_t i = 0; i < ELEMENTS_OF(names); i++) {
                char path[PATH_MAX], target[PATH_MAX];

                (void)snprintf(path, sizeof(path), DEVICES "%s", names[i]);
                (void)snprintf(target, sizeof(target), "../../../devices/platform/spe/%s", names[i]);
                tree_link(tree, path, target);
                (void)snprintf(path, sizeof(path), "sys/devices/platform/spe/%s", names[i]);
                tree_mkdir(tree, path);
        }
        tree_mkdir(tree, DEVICES "cpu");
        put_spu(tree, 0, 8, "0-3\n");
        put_spu(tree, 10, INT32_MAX, "8-11\n");
        put_spu(tree, 2, 9, "4-7\n");
        put(tree, 2, "format/min_latency", "config2:0-11\n");
        put(tree, 2, "format/event_filter", "config1:0-63\n");
        put(tree, 2, "caps/arch_inst", "0\n");
        put(tree, 2, "caps/ernd", "1\n");
        put(tree, 2, "caps/count_size", "12\n");
        put(tree, 2, "caps/min_interval", "1024\n");
        put(tree, 2, "caps/max_buff_size", "4194304\n");

        topology = scan(tree);
        assert_null(topology->problem);
        assert_int_equal(topology->driver, DRIVER_UNKNOWN);
        assert_cpus(&topology->possible, "0-11");
        assert_cpus(&topology->online, "0-6,8-11");
        assert_int_equal(topology->n_spus, 3);
        assert_string_equal(topology->spus[1].name, "arm_spe_2");
        assert_string_equal(topology->spus[2].name, "arm_spe_10");

        spu = assert_ready(topology, "arm_spe_2");
        assert_int_equal(spu->index, 2);
        assert_int_equal(spu->pmu_type, 9);
        assert_cpus(&spu->cpus, "4-7");
        assert_int_equal(spu->max_buffer_size, 4194304);
        assert_int_equal(spu->capabilities.arch_inst, 0);
        assert_int_equal(spu->capabilities.ernd, 1);
        assert_int_equal(spu->capabilities.count_size, 12);
        assert_int_equal(spu->capabilities.min_interval, 1024);
        assert_int_equal(spu->capabilities.n_formats, 3);
        assert_string_equal(spu->capabilities.formats[0], "event_filter");
        assert_string_equal(spu->capabilities.formats[1], "min_latency");
        assert_string_equal(spu->capabilities.formats[2], "ts_enable");
        assert_null(spu->problem);

        spu = assert_ready(topology, "arm_spe_10");
        assert_int_equal(spu->pmu_type, INT32_MAX);
        assert_int_equal(spu->max_buffer_size, 0);
        assert_int_equal(spu->capabilities.arch_inst, -1);
        assert_int_equal(spu->capabilities.min_interval, -1);
        assert_null(spu->problem);
        assert_null(topology_find(topology, "arm_spe_1"));
}

static void test_type(void **state) {
        static const struct {
                const char *text;
                const char *problem;
        } bad[] = {
                {"", "type: not a number"},
                {"\n", "type: not a number"},
                {"-1\n", "type: not a number"},
                {"8x\n", "type: not a number"},
                {" 8\n", "type: not a number"},
                {"8\n\n", "type: not a number"},
                {"2147483648\n", "type: a number out of range"},
                {"0000000000000000000000000000000000000000000000000000000000000000000000008\n",
                 "type: not a number"},
        };
        const Tree *tree = *state;

        put_cpus(tree, "0-7\n", "0-7\n");
        put_spu(tree, 0, 8, "0-3\n");
        put_spu(tree, 1, 9, "4-7\n");
        for (size_t i = 0; i < ELEMENTS_OF(bad); i++) {
                _cleanup_(topology_freep) Topology *topology = NULL;
                const Spu *spu;

                put(tree, 0, "type", bad[i].text);
                topology = scan(tree);
                spu = assert_partial(topology, "arm_spe_0", bad[i].problem);
                assert_cpus(&spu->cpus, "0-3");
                assert_null(assert_ready(topology, "arm_spe_1")->problem);
        }
}

static void test_cpumask(void **state) {
        static const struct {
                const char *text;
                const char *problem;
        } bad[] = {
                {"", "cpumask: no CPUs"},
                {"\n", "cpumask: no CPUs"},
                {"ff\n", "cpumask: not a list of CPUs"},
                {"0-3 \n", "cpumask: not a list of CPUs"},
                {"3-0\n", "cpumask: not a list of CPUs"},
                {"0-8\n", "cpumask: CPU 8 is beyond the possible CPUs 0-7"},
                {"4095\n", "cpumask: CPU 4095 is beyond the possible CPUs 0-7"},
                {"5000\n", "cpumask: a CPU is beyond 4095, the last one supported"},
        };
        const Tree *tree = *state;

        put_cpus(tree, "0-7\n", "0-7\n");
        put_spu(tree, 0, 8, "0-3\n");
        put_spu(tree, 1, 9, "4-7\n");
        for (size_t i = 0; i < ELEMENTS_OF(bad); i++) {
                _cleanup_(topology_freep) Topology *topology = NULL;

                put(tree, 0, "cpumask", bad[i].text);
                topology = scan(tree);
                assert_partial(topology, "arm_spe_0", bad[i].problem);
                assert_null(assert_ready(topology, "arm_spe_1")->problem);
        }
}

/* A bad caps/ file makes nothing partial, but is told. */
static void test_caps(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;
        const Spu *spu;

        put_cpus(tree, "0-31\n", "0-31\n");
        put_spu(tree, 0, 8, "0-3\n");
        put(tree, 0, "caps/arch_inst", "yes\n");
        put(tree, 0, "caps/ernd", "9223372036854775808\n");
        put(tree, 0, "caps/min_interval/dir", "");
        put(tree, 0, "caps/count_size", "16\n");
        put_spu(tree, 1, 9, "4-7\n");
        put(tree, 1, "caps/max_buffer_size", "65536\n");
        put_spu(tree, 2, 10, "8-11\n");
        put(tree, 2, "caps/max_buff_size", "65536\n");
        put(tree, 2, "caps/max_buffer_size", "32768\n");
        put_spu(tree, 3, 11, "12-15\n");
        put(tree, 3, "caps/max_buff_size", "0\n");
        put(tree, 3, "caps/max_buffer_size", "32768\n");
        put_spu(tree, 4, 12, "16-19\n");
        put(tree, 4, "caps/max_buff_size", "0\n");
        put_spu(tree, 5, 13, "20-23\n");
        put(tree, 5, "caps", "a file\n");

        topology = scan(tree);
        spu = assert_ready(topology, "arm_spe_0");
        assert_string_equal(spu->problem, "caps/arch_inst: not a number; caps/ernd: a number out of range; "
                                          "caps/min_interval: not a regular file");
        assert_int_equal(spu->capabilities.arch_inst, -1);
        assert_int_equal(spu->capabilities.ernd, -1);
        assert_int_equal(spu->capabilities.min_interval, -1);
        assert_int_equal(spu->capabilities.count_size, 16);

        spu = assert_ready(topology, "arm_spe_1");
        assert_int_equal(spu->max_buffer_size, 65536);
        assert_null(spu->problem);
        spu = assert_ready(topology, "arm_spe_2");
        assert_int_equal(spu->max_buffer_size, 32768);
        assert_string_equal(spu->problem,
                            "caps: max_buff_size and max_buffer_size differ, the stricter one is used");
        assert_int_equal(assert_ready(topology, "arm_spe_3")->max_buffer_size, 32768);
        spu = assert_ready(topology, "arm_spe_4");
        assert_int_equal(spu->max_buffer_size, 0);
        assert_null(spu->problem);
        assert_null(assert_ready(topology, "arm_spe_5")->problem);
}

static void test_partial(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;

        put_cpus(tree, "0-3\n", "0-3\n");
        tree_mkdir(tree, DEVICES "arm_spe_0");
        put(tree, 1, "type", "8\n");
        put(tree, 1, "cpumask", "0-3\n");
        put(tree, 1, "format", "a file\n");

        topology = scan(tree);
        assert_partial(topology, "arm_spe_0", "type: not there; cpumask: not there; format: not there");
        assert_partial(topology, "arm_spe_1", "format: not a directory");
}

/* Nothing in a tree blocks, crashes or harms the instance beside it. */
static void test_hostile(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        _cleanup_(freep) char *huge = malloc(1 << 20);
        const Tree *tree = *state;
        const Spu *spu;

        assert_non_null(huge);
        memset(huge, '1', 1 << 20);
        put_cpus(tree, "0-7\n", "0-7\n");
        put_spu(tree, 0, 8, "0-3\n");
        tree_link(tree, DEVICES "arm_spe_1", "arm_spe_1");
        tree_link(tree, DEVICES "arm_spe_2", "../nowhere");
        tree_fifo(tree, DEVICES "arm_spe_3");
        tree_put(tree, DEVICES "arm_spe_4", "a file\n");
        tree_fifo(tree, DEVICES "arm_spe_5/type");
        tree_mkdir(tree, DEVICES "arm_spe_5/cpumask");
        tree_link(tree, DEVICES "arm_spe_5/format", "format");
        tree_fifo(tree, DEVICES "arm_spe_5/caps/ernd");
        tree_put_n(tree, DEVICES "arm_spe_6/type", huge, 1 << 20);
        tree_put_n(tree, DEVICES "arm_spe_6/cpumask", huge, 1 << 20);
        tree_link(tree, DEVICES "arm_spe_6/format", "/dev/zero");
        tree_link(tree, DEVICES "arm_spe_7/type", "type");
        tree_link(tree, DEVICES "arm_spe_7/cpumask", "/dev/zero");
        tree_link(tree, DEVICES "arm_spe_7/format", "missing");
        tree_put_n(tree, DEVICES "arm_spe_8/type", "8\0\n", 3);
        tree_put_n(tree, DEVICES "arm_spe_8/cpumask", "\x7f\x45LF\xff\xfe", 6);
        tree_mkdir(tree, DEVICES "arm_spe_8/format");

        topology = scan(tree);
        assert_null(assert_ready(topology, "arm_spe_0")->problem);
        assert_partial(topology, "arm_spe_1", "arm_spe_1: a link that loops");
        assert_partial(topology, "arm_spe_2", "arm_spe_2: not there");
        assert_partial(topology, "arm_spe_3", "arm_spe_3: not a directory");
        assert_partial(topology, "arm_spe_4", "arm_spe_4: not a directory");
        assert_partial(topology, "arm_spe_5",
                       "type: not a regular file; cpumask: not a regular file; format: a link that loops; "
                       "caps/ernd: not a regular file");
        assert_partial(topology, "arm_spe_6",
                       "type: not a number; cpumask: too large; format: not a directory");
        assert_partial(topology, "arm_spe_7",
                       "type: unreadable; cpumask: not a regular file; format: not there");
        spu = assert_partial(topology, "arm_spe_8", "type: unreadable; cpumask: not a list of CPUs");
        assert_true(cpuset_is_empty(&spu->cpus));
        assert_int_equal(topology->n_spus, 9);
}

static void test_names(void **state) {
        static const char *const odd[] = {
                "arm_spe_",    "arm_spe_0x", "arm_spe_00", "arm_spe_-1", "arm_spe_99999999999999999999",
                "arm_spe_\xff"};
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;

        put_cpus(tree, "0-7\n", "0-7\n");
        put_spu(tree, 2147483647, 8, "0-3\n");
        tree_mkdir(tree, DEVICES "arm_spf_0");
        tree_mkdir(tree, DEVICES "xarm_spe_0");
        for (size_t i = 0; i < ELEMENTS_OF(odd); i++) {
                char path[PATH_MAX];

                (void)snprintf(path, sizeof(path), DEVICES "%s", odd[i]);
                tree_mkdir(tree, path);
        }

        topology = scan(tree);
        assert_int_equal(topology->n_spus, 1);
        assert_ready(topology, "arm_spe_2147483647");
        assert_string_equal(topology->problem,
                            "sys/bus/event_source/devices: 6 names like arm_spe_N are no instance's");
}

static void test_formats(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;
        const Spu *spu;

        put_cpus(tree, "0-7\n", "0-7\n");
        put(tree, 0, "type", "8\n");
        put(tree, 0, "cpumask", "0-3\n");
        for (unsigned i = 100; i > 0; i--) {
                char file[32];

                (void)snprintf(file, sizeof(file), "format/f%03u", i);
                put(tree, 0, file, "");
        }
        put(tree, 0, "format/a\tb", "");

        topology = scan(tree);
        spu = assert_ready(topology, "arm_spe_0");
        assert_int_equal(spu->capabilities.n_formats, TOPOLOGY_FORMATS_MAX);
        assert_string_equal(spu->capabilities.formats[0], "f001");
        assert_string_equal(spu->capabilities.formats[TOPOLOGY_FORMATS_MAX - 1], "f064");
        assert_string_equal(spu->problem, "format: names that are not the driver's are left out; "
                                          "format: 100 names, of which 64 are listed");
}

/* 10,000 directories: the lowest ones are read, and the rest is told. */
static void test_many(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;

        put_cpus(tree, "0-7\n", "0-7\n");
        put_spu(tree, 3, 8, "0-3\n");
        for (unsigned i = 0; i < 10000; i++) {
                char path[PATH_MAX];

                (void)snprintf(path, sizeof(path), DEVICES "arm_spe_%u", i);
                if (i != 3)
                        assert_int_equal(mkdirat(tree->fd, path, 0700), 0);
        }

        topology = scan(tree);
        assert_int_equal(topology->n_spus, TOPOLOGY_INSTANCES_MAX);
        for (unsigned i = 0; i < TOPOLOGY_INSTANCES_MAX; i++)
                assert_int_equal(topology->spus[i].index, i);
        assert_ready(topology, "arm_spe_3");
        assert_string_equal(
                topology->problem,
                "sys/bus/event_source/devices: 10000 instances, of which the first 1024 are used");
}

/* What one says is judged against the others. */
static void test_against_each_other(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;

        put_cpus(tree, "0-31\n", "0-31\n");
        put_spu(tree, 0, 8, "0-3\n");
        put_spu(tree, 1, 9, "3-7\n");
        put_spu(tree, 2, 10, "7-9\n"); /* of arm_spe_1 alone, which is partial: nothing is wrong with it */
        put_spu(tree, 3, 11, "10-13\n");
        put_spu(tree, 4, 11, "14-17\n");
        put_spu(tree, 5, 11, "18\n");
        put_spu(tree, 6, 12, "13\n"); /* of arm_spe_3, likewise */

        topology = scan(tree);
        assert_null(assert_ready(topology, "arm_spe_0")->problem);
        assert_partial(topology, "arm_spe_1", "cpumask: CPU 3 is already of arm_spe_0");
        assert_null(assert_ready(topology, "arm_spe_2")->problem);
        assert_partial(topology, "arm_spe_3", "type: 11 is also that of arm_spe_4");
        assert_partial(topology, "arm_spe_4", "type: 11 is also that of arm_spe_3");
        assert_partial(topology, "arm_spe_5", "type: 11 is also that of arm_spe_3");
        assert_null(assert_ready(topology, "arm_spe_6")->problem);
}

static void test_lists_of_cpus(void **state) {
        const Tree *tree = *state;
        Topology *topology;

        /* An empty tree. */
        topology = scan(tree);
        assert_int_equal(topology->n_spus, 0);
        assert_true(cpuset_is_empty(&topology->online));
        assert_string_equal(
                topology->problem,
                "sys/devices/system/cpu/online: not there; sys/bus/event_source/devices: not there; "
                "no list of online CPUs: all of them are taken to be online");
        topology_free(topology);

        /* Neither list: every SPU's CPUs, and no bound for them. */
        put_spu(tree, 0, 8, "0-3\n");
        put_spu(tree, 1, 9, "4095\n");
        topology = scan(tree);
        assert_cpus(&topology->online, "0-3,4095");
        assert_ready(topology, "arm_spe_1");
        topology_free(topology);

        tree_put(tree, "sys/devices/system/cpu/online", "all\n");
        tree_put(tree, "sys/devices/system/cpu/possible", "0-8191\n");
        topology = scan(tree);
        assert_cpus(&topology->online, "0-3,4095");
        assert_string_equal(topology->problem,
                            "sys/devices/system/cpu/possible: a CPU is beyond 4095, the last one supported; "
                            "sys/devices/system/cpu/online: not a list of CPUs; "
                            "no list of online CPUs: all of them are taken to be online");
        topology_free(topology);

        tree_put(tree, "sys/devices/system/cpu/possible", "0-15\n");
        topology = scan(tree);
        assert_cpus(&topology->online, "0-15");
        assert_partial(topology, "arm_spe_1", "cpumask: CPU 4095 is beyond the possible CPUs 0-15");
        topology_free(topology);

        tree_put(tree, "sys/devices/system/cpu/online", "0,2\n");
        topology = scan(tree);
        assert_cpus(&topology->online, "0,2");
        assert_null(topology->problem);
        topology_free(topology);
}

static void assert_driver(const Tree *tree, DriverKind kind, const char *word) {
        _cleanup_(topology_freep) Topology *topology = scan(tree);

        assert_int_equal(topology->driver, kind);
        assert_string_equal(driver_kind_to_string(topology->driver), word);
}

static void test_driver(void **state) {
        const Tree *tree = *state;

        assert_driver(tree, DRIVER_UNKNOWN, "unknown");
        tree_mkdir(tree, "sys/module/arm_spe_pmu/parameters");
        assert_driver(tree, DRIVER_UNKNOWN, "unknown");
        tree_mkdir(tree, "sys/bus/platform/drivers/arm_spe_pmu");
        assert_driver(tree, DRIVER_BUILTIN, "builtin");
        tree_put(tree, "sys/module/arm_spe_pmu/refcnt", "0\n");
        assert_driver(tree, DRIVER_MODULE, "module");
        tree_unlink(tree, "sys/module/arm_spe_pmu/refcnt");
        tree_put(tree, "sys/module/arm_spe_pmu/initstate", "live\n");
        assert_driver(tree, DRIVER_MODULE, "module");
}

static void test_news(void **state) {
        static const struct {
                const char *file;
                const char *text;
        } changes[] = {
                {"type", "9\n"},         {"cpumask", "0-2\n"},         {"format/jitter", ""},
                {"caps/ernd", "1\n"},    {"caps/arch_inst", "1\n"},    {"caps/count_size", "12\n"},
                {"caps/ernd", "0\n"},    {"caps/min_interval", "8\n"}, {"caps/max_buff_size", "4096\n"},
                {"caps/ernd", "none\n"}, {"type", "none\n"},
        };
        const Tree *tree = *state;
        Topology *before, *after;

        put_cpus(tree, "0-7\n", "0-7\n");
        put_spu(tree, 0, 8, "0-3\n");
        before = scan(tree);
        topology_mark_news(before, NULL);
        for (size_t i = 0; i < ELEMENTS_OF(changes); i++) {
                after = scan(tree);
                topology_mark_news(after, before);
                assert_true(after->spus[0].news); /* until somebody has been told */
                before->spus[0].news = false;
                topology_mark_news(after, before);
                assert_false(after->spus[0].news);
                topology_free(after);

                put(tree, 0, changes[i].file, changes[i].text);
                after = scan(tree);
                topology_mark_news(after, before);
                assert_true(after->spus[0].news);
                topology_free(before);
                before = after;
        }
        topology_free(before);
}

/* Running out of descriptors is no fault of the tree: no instance is called partial for it. */
static void test_no_descriptors(void **state) {
        const Tree *tree = *state;
        struct rlimit limit, none;
        Topology *topology = NULL;

        put_cpus(tree, "0-7\n", "0-7\n");
        put_spu(tree, 0, 8, "0-3\n");
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = (struct rlimit){.rlim_cur = (rlim_t)tree->fd + 2, .rlim_max = limit.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        assert_int_equal(topology_scan(tree->fd, &topology), -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_null(topology);
}

static Topology *scan_fixture(const char *name) {
        _cleanup_(closep) int fd = -1;
        Topology *topology = NULL;
        char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), SPE_SOURCE_DIR "/tests/fixtures/%s", name);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(topology_scan(fd, &topology), 0);
        assert_null(topology->problem);
        for (size_t i = 0; i < topology->n_spus; i++)
                assert_null(topology->spus[i].problem);
        return topology;
}

static void test_fixtures(_unused_ void **state) {
        Topology *topology;
        const Spu *spu;

        topology = scan_fixture("graviton2-6.1");
        assert_int_equal(topology->driver, DRIVER_BUILTIN);
        assert_int_equal(topology->n_spus, 1);
        spu = assert_ready(topology, "arm_spe_0");
        assert_int_equal(spu->pmu_type, 8);
        assert_cpus(&spu->cpus, "0-63");
        assert_int_equal(spu->capabilities.n_formats, 9);
        topology_free(topology);

        topology = scan_fixture("graviton3-6.17");
        assert_int_equal(topology->driver, DRIVER_MODULE);
        spu = assert_ready(topology, "arm_spe_0");
        assert_int_equal(spu->pmu_type, 11);
        assert_int_equal(spu->max_buffer_size, 0);
        assert_int_equal(spu->capabilities.n_formats, 10);
        topology_free(topology);

        topology = scan_fixture("two-clusters-dt");
        assert_int_equal(topology->n_spus, 2);
        assert_cpus(&topology->online, "0-5,7");
        assert_int_equal(assert_ready(topology, "arm_spe_0")->max_buffer_size, 2097152);
        spu = assert_ready(topology, "arm_spe_1");
        assert_int_equal(spu->pmu_type, 10);
        assert_cpus(&spu->cpus, "4-7");
        topology_free(topology);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_whole, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_type, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_cpumask, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_caps, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_partial, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_hostile, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_names, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_formats, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_many, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_against_each_other, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_lists_of_cpus, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_driver, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_news, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_no_descriptors, tree_setup, tree_teardown),
                cmocka_unit_test(test_fixtures),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
