# Fails the build when a tier's static library could leak its instructions into the rest of the
# program, or calls something that was not compiled for the tier.
#
#   cmake -DNM=<nm> -DLIBRARY=<libavx2.a> -P check_tier.cmake
#
# A weak or unique symbol (W, V, u) is shared by name with every other file that has it: the linker
# may keep the body with AVX-512 instructions, and older CPUs die of it. An undefined symbol is a
# call out of the tier.

set(allowed memcpy memmove memset __stack_chk_fail _GLOBAL_OFFSET_TABLE_)

execute_process(
  COMMAND "${NM}" "${LIBRARY}"
  OUTPUT_VARIABLE listing
  ERROR_VARIABLE message
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "check_tier: '${NM} ${LIBRARY}' failed (${status}): ${message}")
endif()

string(REPLACE "\n" ";" lines "${listing}")
set(defined "")
set(undefined "")
set(weak "")
foreach(line IN LISTS lines)
  if(line MATCHES "^[0-9a-fA-F]* +([A-Za-z]) ([^ ]+)$")
    set(kind "${CMAKE_MATCH_1}")
    set(symbol "${CMAKE_MATCH_2}")
    if(kind MATCHES "^[WwVvu]$")
      list(APPEND weak "${symbol}")
    elseif(kind STREQUAL "U")
      list(APPEND undefined "${symbol}")
    else()
      list(APPEND defined "${symbol}")
    endif()
  endif()
endforeach()

if(NOT defined)
  message(FATAL_ERROR
    "check_tier: ${LIBRARY} defines no symbol; expected at least its install function")
endif()
if(undefined)
  list(REMOVE_DUPLICATES undefined)
  list(REMOVE_ITEM undefined ${allowed} ${defined})
endif()
if(weak)
  list(REMOVE_DUPLICATES weak)
  list(JOIN weak ", " names)
  message(FATAL_ERROR
    "check_tier: ${LIBRARY} has weak symbols: ${names}; expected none. Give them internal linkage "
    "(unnamed namespace) or leave the header they come from")
endif()
if(undefined)
  list(JOIN undefined ", " names)
  list(JOIN allowed ", " expected)
  message(FATAL_ERROR
    "check_tier: ${LIBRARY} calls ${names}; expected only its own functions and ${expected}. Write "
    "it with intrinsics in the tier's own folder")
endif()
