/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * org.varlink.certification: a sequence of calls in which each takes what the one before gave, so that every
 * type of the language goes through both ends once. Both roles work from this one table.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#define CERTIFICATION "org.varlink.certification"

/* The step that is streamed ten times, and the one after it, which takes all ten and is not answered. */
#define STEP_STREAM 10U
#define STEP_ONEWAY 11U
#define STEP_END    12U

#define STREAM_REPLIES 10U

typedef struct Step {
        const char *method;
        const char *gives; /* JSON; the next step's parameters, but for the client_id */
} Step;

extern const Step steps[STEP_END + 1];

/* What @step gives, parsed; the caller owns it. */
struct json_object *step_gives(size_t step);
/* What @step takes, likewise. */
struct json_object *step_takes(size_t step);

/*
 * The same values: null is the same as absent, and 1 the same as 1.0, since JSON has one kind of number.
 * Members of @got that are called client_id are not looked at.
 */
bool value_equal(struct json_object *got, struct json_object *wanted);

/* The two roles; they return an exit status. */
int certification_serve(const char *path, const char *idl_path);
int certification_call(const char *path);
