# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Writes each of FILES as a C array to OUTPUT: idl_io_spebroker_Broker[] for io.spebroker.Broker.varlink.
set(text "/* Made by cmake/embed.cmake. */\n#include \"idl/idl-text.h\"\n")
foreach(file IN LISTS FILES)
        get_filename_component(name ${file} NAME)
        string(REGEX REPLACE "\\.varlink$" "" name ${name})
        string(REPLACE "." "_" name ${name})
        file(READ ${file} hex HEX)
        string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
        string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
        string(APPEND text "const char idl_${name}[] = {\n${bytes}0x00};\n")
endforeach()
file(WRITE ${OUTPUT} "${text}")
