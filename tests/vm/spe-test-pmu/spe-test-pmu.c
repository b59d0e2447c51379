/* SPDX-License-Identifier: GPL-2.0-only */

/*
 * Stands for the Arm SPE driver where there is no SPE: PMUs arm_spe_N that show what the real ones
 * show in sysfs, refuse what the real ones refuse, and exclude each other's events as the real ones
 * do, and that sample nothing. What comes and goes, and who is told, is the kernel's own doing.
 *
 * Each set of CPUs is a platform device, as each SPE node of a device tree is, and its probe
 * registers one PMU. The names are from a counter that starts at 0 whenever the module is loaded,
 * and only grows.
 *
 *   cpus=0-1;2-3        the PMUs' CPUs
 *   max_buff_size=N     shows caps/max_buff_size, and lets no larger buffer be mapped; 0 is no
 * limit half_registered=1   the PMUs first have neither cpumask nor format, and their probe (hence
 * insmod) waits release=1           written to /sys/module/arm_spe_pmu/parameters/release: the
 * probes complete
 *   unbind=N, bind=N    written there: the Nth PMU goes away, or is back under a new name
 */

#include <linux/capability.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/mod_devicetable.h>
#include <linux/module.h>
#include <linux/perf_event.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/version.h>

#define DRIVER_NAME "arm_spe_pmu"
#define DEVICE_NAME "spe"
#define DEVICES_MAX 32

/* As on a Neoverse N1. */
#define MIN_INTERVAL 1024U
#define COUNT_SIZE 12U

/* Bits of config, as in format/ below. */
#define CONFIG_PA_ENABLE BIT(1)
#define CONFIG_PCT_ENABLE BIT(2)

struct test_spe {
	struct pmu pmu;
	cpumask_t cpus;
};

static char *cpus = "0";
module_param(cpus, charp, 0444);
MODULE_PARM_DESC(cpus, "lists of CPUs, one per PMU, with ';' between them");

static long max_buff_size = -1;
module_param(max_buff_size, long, 0444);
MODULE_PARM_DESC(max_buff_size, "bytes; -1: the capability is not there");

static bool half_registered;
module_param(half_registered, bool, 0444);
MODULE_PARM_DESC(half_registered, "the PMUs lack cpumask and format until released");

static DECLARE_COMPLETION(released);

static int release_set(const char *value, const struct kernel_param *kp)
{
	complete_all(&released);
	return 0;
}

static const struct kernel_param_ops release_ops = {.set = release_set};
module_param_cb(release, &release_ops, NULL, 0200);
MODULE_PARM_DESC(release, "written to: half registered PMUs become whole");

static struct platform_device *devices[DEVICES_MAX];
static atomic_t next_index = ATOMIC_INIT(0);

/* The device of the Nth set of CPUs. */
static struct device *device_of(const char *value)
{
	unsigned int index;

	if (kstrtouint(value, 10, &index) || index >= DEVICES_MAX || !devices[index])
		return NULL;
	return &devices[index]->dev;
}

static int unbind_set(const char *value, const struct kernel_param *kp)
{
	struct device *dev = device_of(value);

	if (!dev)
		return -EINVAL;
	device_release_driver(dev);
	return 0;
}

static int bind_set(const char *value, const struct kernel_param *kp)
{
	struct device *dev = device_of(value);

	return dev && device_attach(dev) == 1 ? 0 : -EINVAL;
}

static const struct kernel_param_ops unbind_ops = {.set = unbind_set};
module_param_cb(unbind, &unbind_ops, NULL, 0200);
MODULE_PARM_DESC(unbind, "written to: that PMU goes away");

static const struct kernel_param_ops bind_ops = {.set = bind_set};
module_param_cb(bind, &bind_ops, NULL, 0200);
MODULE_PARM_DESC(bind, "written to: that PMU is back");

static struct test_spe *to_spe(struct pmu *pmu)
{
	return container_of(pmu, struct test_spe, pmu);
}

/* sysfs */

static ssize_t cpumask_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct test_spe *spe = to_spe(dev_get_drvdata(dev));

	return cpumap_print_to_pagebuf(true, buf, &spe->cpus);
}
static DEVICE_ATTR_RO(cpumask);

static struct attribute *cpumask_attrs[] = {&dev_attr_cpumask.attr, NULL};
static const struct attribute_group cpumask_group = {.attrs = cpumask_attrs};

PMU_FORMAT_ATTR(ts_enable, "config:0");
PMU_FORMAT_ATTR(pa_enable, "config:1");
PMU_FORMAT_ATTR(pct_enable, "config:2");
PMU_FORMAT_ATTR(jitter, "config:16");
PMU_FORMAT_ATTR(branch_filter, "config:32");
PMU_FORMAT_ATTR(load_filter, "config:33");
PMU_FORMAT_ATTR(store_filter, "config:34");
PMU_FORMAT_ATTR(event_filter, "config1:0-63");
PMU_FORMAT_ATTR(min_latency, "config2:0-11");

static struct attribute *format_attrs[] = {
    &format_attr_ts_enable.attr,     &format_attr_pa_enable.attr,
    &format_attr_pct_enable.attr,    &format_attr_jitter.attr,
    &format_attr_branch_filter.attr, &format_attr_load_filter.attr,
    &format_attr_store_filter.attr,  &format_attr_event_filter.attr,
    &format_attr_min_latency.attr,   NULL,
};
static const struct attribute_group format_group = {.name = "format", .attrs = format_attrs};

static ssize_t arch_inst_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "0\n");
}
static DEVICE_ATTR_RO(arch_inst);

static ssize_t ernd_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "1\n");
}
static DEVICE_ATTR_RO(ernd);

static ssize_t count_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", COUNT_SIZE);
}
static DEVICE_ATTR_RO(count_size);

static ssize_t min_interval_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", MIN_INTERVAL);
}
static DEVICE_ATTR_RO(min_interval);

static ssize_t max_buff_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%ld\n", max_buff_size);
}
static DEVICE_ATTR_RO(max_buff_size);

static struct attribute *caps_attrs[] = {
    &dev_attr_arch_inst.attr,	 &dev_attr_ernd.attr,	       &dev_attr_count_size.attr,
    &dev_attr_min_interval.attr, &dev_attr_max_buff_size.attr, NULL,
};

static umode_t caps_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	return attr == &dev_attr_max_buff_size.attr && max_buff_size < 0 ? 0 : attr->mode;
}
static const struct attribute_group caps_group = {
    .name = "caps", .attrs = caps_attrs, .is_visible = caps_visible};

static const struct attribute_group *whole_groups[] = {&cpumask_group, &caps_group, &format_group,
						       NULL};
static const struct attribute_group *half_groups[] = {&caps_group, NULL};
static const struct attribute_group *missing_groups[] = {&cpumask_group, &format_group, NULL};

/* perf */

/* In the real driver's order. */
static int test_event_init(struct perf_event *event)
{
	struct perf_event_attr *attr = &event->attr;
	struct test_spe *spe = to_spe(event->pmu);

	if (attr->type != event->pmu->type)
		return -ENOENT;
	if (event->cpu >= 0 && !cpumask_test_cpu(event->cpu, &spe->cpus))
		return -ENOENT;
	if (attr->exclude_idle)
		return -EOPNOTSUPP;
	if (attr->freq)
		return -EINVAL;
	if ((attr->config & (CONFIG_PA_ENABLE | CONFIG_PCT_ENABLE)) && !perfmon_capable())
		return -EACCES;
	return 0;
}

static int test_add(struct perf_event *event, int flags)
{
	struct test_spe *spe = to_spe(event->pmu);

	return cpumask_test_cpu(smp_processor_id(), &spe->cpus) ? 0 : -ENOENT;
}

static void test_del(struct perf_event *event, int flags)
{
}

static void test_start(struct perf_event *event, int flags)
{
}

static void test_stop(struct perf_event *event, int flags)
{
}

static void test_read(struct perf_event *event)
{
}

/* Nothing is written to the buffer: it only has to be there, and of the right size. */
static void *test_setup_aux(struct perf_event *event, void **pages, int n_pages, bool snapshot)
{
	if (n_pages < 2 || (snapshot && n_pages & 1))
		return NULL;
	if (max_buff_size > 0 && (long)n_pages * (long)PAGE_SIZE > max_buff_size)
		return NULL;
	return kzalloc(sizeof(long), GFP_KERNEL);
}

static void test_free_aux(void *aux)
{
	kfree(aux);
}

/* The platform device, and its driver */

static int wait_released(struct test_spe *spe)
{
	int r = wait_for_completion_killable(&released);

	if (r)
		return r;
	return sysfs_create_groups(&spe->pmu.dev->kobj, missing_groups);
}

static int test_probe(struct platform_device *pdev)
{
	const cpumask_t *set = dev_get_platdata(&pdev->dev);
	struct test_spe *spe;
	char *name;
	int r;

	spe = devm_kzalloc(&pdev->dev, sizeof(*spe), GFP_KERNEL);
	if (!spe)
		return -ENOMEM;
	cpumask_copy(&spe->cpus, set);
	if (!cpumask_intersects(&spe->cpus, cpu_online_mask))
		return -ENXIO;
	name = devm_kasprintf(&pdev->dev, GFP_KERNEL, "arm_spe_%d",
			      atomic_inc_return(&next_index) - 1);
	if (!name)
		return -ENOMEM;

	spe->pmu = (struct pmu)
	{
		.module = THIS_MODULE,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
		.parent = &pdev->dev,
#endif
		.capabilities = PERF_PMU_CAP_EXCLUSIVE | PERF_PMU_CAP_ITRACE,
		.attr_groups = half_registered ? half_groups : whole_groups,
		.task_ctx_nr = perf_sw_context, .event_init = test_event_init, .add = test_add,
		.del = test_del, .start = test_start, .stop = test_stop, .read = test_read,
		.setup_aux = test_setup_aux, .free_aux = test_free_aux,
	};
	r = perf_pmu_register(&spe->pmu, name, -1);
	if (r)
		return r;
	if (half_registered) {
		r = wait_released(spe);
		if (r) {
			perf_pmu_unregister(&spe->pmu);
			return r;
		}
	}

	platform_set_drvdata(pdev, spe);
	dev_info(&pdev->dev,
		 "probed SPEv1.1 for CPUs %*pbl [max_record_sz 64, align 64, features 0x7]\n",
		 cpumask_pr_args(&spe->cpus));
	return 0;
}

static void test_unbind(struct platform_device *pdev)
{
	struct test_spe *spe = platform_get_drvdata(pdev);

	if (half_registered)
		sysfs_remove_groups(&spe->pmu.dev->kobj, missing_groups);
	perf_pmu_unregister(&spe->pmu);
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static int test_remove(struct platform_device *pdev)
{
	test_unbind(pdev);
	return 0;
}
#else
static void test_remove(struct platform_device *pdev)
{
	test_unbind(pdev);
}
#endif

static const struct platform_device_id test_ids[] = {{DEVICE_NAME}, {}};

static struct platform_driver test_driver = {
    .id_table = test_ids,
    .driver = {.name = DRIVER_NAME, .suppress_bind_attrs = true},
    .probe = test_probe,
    .remove = test_remove,
};

static void remove_devices(void)
{
	for (int i = 0; i < DEVICES_MAX && devices[i]; i++)
		platform_device_unregister(devices[i]);
}

/* The device of one list of CPUs; the only one has no number, as in a device tree with one node. */
static int add_device(const char *list, int index, bool only)
{
	static cpumask_t set;
	struct platform_device *pdev;
	int r;

	r = cpulist_parse(list, &set);
	if (r)
		return r;
	if (cpumask_empty(&set))
		return -EINVAL;
	pdev = platform_device_register_data(NULL, DEVICE_NAME, only ? PLATFORM_DEVID_NONE : index,
					     &set, sizeof(set));
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	devices[index] = pdev;
	return 0;
}

static int add_devices(char *lists)
{
	bool only = !strchr(lists, ';');
	char *list;
	int r;

	for (int i = 0; (list = strsep(&lists, ";")); i++) {
		r = i < DEVICES_MAX ? add_device(list, i, only) : -E2BIG;
		if (r)
			return r;
	}
	return 0;
}

static int __init test_init(void)
{
	char *lists = kstrdup(cpus, GFP_KERNEL);
	int r;

	if (!lists)
		return -ENOMEM;
	r = add_devices(lists);
	kfree(lists);
	if (!r)
		r = platform_driver_register(&test_driver);
	if (r)
		remove_devices();
	return r;
}
module_init(test_init);

static void __exit test_exit(void)
{
	platform_driver_unregister(&test_driver);
	remove_devices();
}
module_exit(test_exit);

MODULE_DESCRIPTION("PMUs like those of Arm's Statistical Profiling Extension, for tests");
MODULE_AUTHOR("The spe-broker authors");
MODULE_LICENSE("GPL v2");
