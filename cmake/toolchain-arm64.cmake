# SPDX-License-Identifier: LGPL-2.1-or-later
#
# For arm64 with Debian's cross compiler, against the libraries that tools/fetch-arm64 has unpacked (or, with
# -DCMAKE_SYSROOT=DIR, others). What is built runs here under QEMU's user emulation, named to nobody but ctest.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_C_COMPILER ${CMAKE_LIBRARY_ARCHITECTURE}-gcc)

set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CMAKE_SYSROOT)
if(NOT CMAKE_SYSROOT)
        set(CMAKE_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/arm64-sysroot)
endif()
get_filename_component(CMAKE_SYSROOT ${CMAKE_SYSROOT} REALPATH)
if(NOT EXISTS ${CMAKE_SYSROOT}/usr/include)
        message(FATAL_ERROR "No libraries for arm64 in ${CMAKE_SYSROOT}: tools/fetch-arm64 gets them")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

set(ENV{PKG_CONFIG_SYSROOT_DIR} ${CMAKE_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR}
        ${CMAKE_SYSROOT}/usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig)

find_program(qemu_arm64 NAMES qemu-aarch64 qemu-aarch64-static)
if(qemu_arm64)
        set(CMAKE_CROSSCOMPILING_EMULATOR ${qemu_arm64} -L ${CMAKE_SYSROOT})
endif()
