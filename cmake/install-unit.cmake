# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Part of the installation: writes the service with the daemon's path under the prefix that it is installed to.
cmake_policy(VERSION 3.25)
get_filename_component(prefix "${CMAKE_INSTALL_PREFIX}" ABSOLUTE)
set(unit "$ENV{DESTDIR}${prefix}/${SPE_UNIT_DIR}/spe-broker.service")
message(STATUS "Installing: ${unit}")

# As systemd.service(5) wants it: quoted where there is a blank, % is said twice.
set(daemon "${prefix}/${SPE_SBINDIR}/spe-broker")
string(REPLACE "%" "%%" daemon "${daemon}")
if(daemon MATCHES "[ \t]")
        set(daemon "\"${daemon}\"")
endif()
file(READ "${SPE_INPUT}" text)
string(FIND "${text}" "\nExecStart=/usr/sbin/spe-broker\n" at)
if(at EQUAL -1)
        message(FATAL_ERROR "${SPE_INPUT}: no line ExecStart=/usr/sbin/spe-broker to rewrite")
endif()
string(REPLACE "\nExecStart=/usr/sbin/spe-broker\n" "\nExecStart=${daemon}\n" text "${text}")
file(WRITE "${unit}" "${text}")
file(CHMOD "${unit}" PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${prefix}/${SPE_UNIT_DIR}/spe-broker.service")
