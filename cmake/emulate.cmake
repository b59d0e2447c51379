# SPDX-License-Identifier: LGPL-2.1-or-later
#
# How tests run what was built, where that is not for this machine: under QEMU's user emulation, named to nobody but
# them. The programs' own loader is started, with a copy of its libraries that every user can read; QEMU's -L would
# instead show the programs the sysroot's files for this machine's.
if(CMAKE_CROSSCOMPILING)
        find_program(SPE_QEMU NAMES qemu-${CMAKE_SYSTEM_PROCESSOR} qemu-${CMAKE_SYSTEM_PROCESSOR}-static REQUIRED)
        set(emulated ${PROJECT_BINARY_DIR}/emulated)
        foreach(directory lib usr/lib)
                file(GLOB libraries ${CMAKE_SYSROOT}/${directory}/${CMAKE_LIBRARY_ARCHITECTURE}/*.so*)
                file(COPY ${libraries} DESTINATION ${emulated}/lib)
        endforeach()
        file(GLOB loader ${emulated}/lib/ld-linux*.so.*)
        set(CMAKE_CROSSCOMPILING_EMULATOR ${SPE_QEMU} ${loader} --library-path ${emulated}/lib)
endif()

# spe_program(TARGET VARIABLE): the file by which a test's script starts a program of ours. For another machine that is
# a script that becomes the emulator, so that no test need know.
function(spe_program target variable)
        if(NOT CMAKE_CROSSCOMPILING)
                set(${variable} $<TARGET_FILE:${target}> PARENT_SCOPE)
                return()
        endif()
        list(JOIN CMAKE_CROSSCOMPILING_EMULATOR "' '" emulator)
        file(GENERATE OUTPUT ${emulated}/${target}
                CONTENT "#!/bin/sh\nexec '${emulator}' '$<TARGET_FILE:${target}>' \"$@\"\n"
                FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
        set(${variable} ${emulated}/${target} PARENT_SCOPE)
endfunction()
