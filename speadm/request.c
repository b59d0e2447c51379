/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The request of query and run, from the command line and back to one. */

#include <inttypes.h>

#include "speadm/field.h"
#include "speadm/request.h"
#include "speadm/tell.h"
#include "speadm/text.h"
#include "util/parse.h"

int request_check(const Arguments *arguments) {
        if (!arguments_has(arguments, OPTION_VCPUS))
                return complain_usage("--vcpus N is needed: how many VCPUs the VM has");
        return SPEADM_DONE;
}

void request_write(JsonWriter *writer, const Arguments *arguments, const char *id) {
        json_write_object_begin(writer, "request");
        if (arguments->vm)
                json_write_string(writer, "vm", arguments->vm);
        json_write_int(writer, "vcpus", (int64_t)arguments->vcpus);
        if (arguments->cpus)
                json_write_string(writer, "cpus", arguments->cpus);
        if (arguments->instance)
                json_write_string(writer, "instance", arguments->instance);
        if (arguments_has(arguments, OPTION_BUFFER))
                json_write_int(writer, "bufferSize", (int64_t)arguments->buffer_size);
        if (arguments_has(arguments, OPTION_EXACT))
                json_write_bool(writer, "exact", true);
        if (arguments->mode)
                json_write_string(writer, "mode", arguments->mode);
        if (arguments_has(arguments, OPTION_PID))
                json_write_int(writer, "pid", (int64_t)arguments->pid);
        if (arguments->cgroup)
                json_write_string(writer, "cgroup", arguments->cgroup);
        if (id)
                json_write_string(writer, "requestId", id);
        json_write_object_end(writer);
}

static void print_option(const char *name, const char *value) {
        if (!value || !*value)
                return;
        printf(" --%s ", name);
        text_write_quoted(stdout, value);
}

void request_print_offer(const Arguments *arguments, const char *verb, const struct json_object *offer) {
        char size[FORMAT_SIZE_MAX];

        printf("speadm %s --vcpus %" PRIu64, verb, arguments->vcpus);
        print_option("vm", arguments->vm);
        print_option("instance", field_string(offer, "instance"));
        print_option("cpus", field_string(offer, "cpus"));
        print_option("buffer", format_size(field_unsigned(offer, "bufferSize"), size));
        print_option("mode", field_string(offer, "mode"));
}
