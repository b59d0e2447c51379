/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Random numbers of the kernel's, for names that nobody is to guess and for points in time that nobody is to
 * share.
 */

#include <stdbool.h>
#include <stddef.h>

/* The text of 128 bits: 32 lowercase hexadecimal digits and a NUL. */
#define RANDOM_ID_SIZE 33

/* 0 or -errno. */
int random_fill(void *bytes, size_t n);

int random_id(char ret_id[static RANDOM_ID_SIZE]);
/* Whether @id looks like one. */
bool random_id_is_valid(const char *id);
