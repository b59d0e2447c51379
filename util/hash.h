/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * FNV-1a with 64 bits: tells any two texts of one length that differ in a single byte apart, and most others.
 * It has no key: whoever wants to make two texts with one hash can.
 */

#include <stddef.h>
#include <stdint.h>

/* Of no bytes. */
#define HASH_INIT UINT64_C(0xcbf29ce484222325)

/* The hash of what @hash is of, and behind it @n bytes. */
uint64_t hash_add(uint64_t hash, const void *bytes, size_t n);
