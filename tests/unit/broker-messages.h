/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a broker says, for libspebroker's tests. */

#define ID "0123456789abcdef0123456789abcdef"

#define LEASE_WITH(pmu_type, cpus, buffer_size, memlock, state)                                             \
        "{\"leaseId\":\"" ID                                                                                \
        "\",\"vm\":\"a\",\"vmOrigin\":\"caller\",\"instance\":\"arm_spe_1\",\"pmuType\":" pmu_type          \
        ",\"cpus\":" cpus ",\"vcpus\":2,\"bufferSize\":" buffer_size ",\"requestedBufferSize\":8388608,"    \
        "\"limitedBy\":\"MaxBufferSize\",\"charge\":9437184,\"memlock\":" memlock                           \
        ",\"interrupt\":21,\"mode\":\"guest\",\"state\":\"" state "\",\"reason\":null,\"contended\":false," \
        "\"restartRequired\":true,\"owner\":{\"pid\":1,\"uid\":0},\"sinceUSec\":1,\"remainingUSec\":7,"     \
        "\"new\":[]}"

#define MEMLOCK      "{\"bytes\":9437184,\"state\":\"unmanaged\"}"
#define LEASE(state) LEASE_WITH("9", "\"4-5,8\"", "4194304", MEMLOCK, state)
#define GRANTED      "{\"parameters\":{\"lease\":" LEASE("granted") "}}"

#define CHANGE(change) \
        "{\"continues\":true,\"parameters\":{\"change\":\"" change "\",\"lease\":" LEASE(change) "}}"

#define BUSY                                                                                        \
        "{\"error\":\"io.spebroker.Broker.Busy\",\"parameters\":{\"holders\":[{\"kind\":\"lease\"," \
        "\"leaseId\":\"" ID                                                                         \
        "\",\"vm\":\"b\\u001b[m\",\"pid\":77,\"uid\":1000,\"command\":\"kvm\",\"cpus\":\"4\"},"     \
        "{\"kind\":\"session\",\"cpus\":\"5\"}]}}"

#define OFFER                                                                                             \
        "{\"instance\":\"arm_spe_0\",\"pmuType\":8,\"cpus\":\"0-3\",\"bufferSize\":4096,\"charge\":9000," \
        "\"mode\":\"guest\",\"limitedBy\":null}"
#define REFUSAL                                                                                        \
        "{\"id\":\"" ID "\",\"error\":\"io.spebroker.Broker.NotAssigned\",\"message\":\"Not yours.\"," \
        "\"whenUSec\":1,\"vm\":\"a\",\"assignedVm\":\"b\",\"cpus\":\"4\"}"
