/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One SPU's directory, read into a value: the part of the topology scan that looks at no other instance.
 */

#include "host/topology.h"

#define SPU_NAME_PREFIX "arm_spe_"

/*
 * Reads SPU_NAME_PREFIX@index below @devices_fd. Whatever is wrong makes it partial, with a problem; only
 * what is no fault of the tree (-ENOMEM, -EMFILE) is returned. @possible, if not empty, bounds the cpumask.
 */
int spu_read(int devices_fd, unsigned index, const CpuSet *possible, Spu *ret_spu);
void spu_deinit(Spu *spu);

/* Appends a sentence to *@problem, after a "; " if it holds one already. */
int problem_add(char **problem, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));
