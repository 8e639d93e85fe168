# Fails the build if an object of one instruction set offers a function that the linker could share with another set's:
# an inline function or template outside the set's own namespace. The copy that survives might use instructions that
# the machine lacks. Called with NM, ISA and OBJECTS.
execute_process(COMMAND ${NM} -C ${OBJECTS} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed ERROR_VARIABLE text)
if(failed)
  message(FATAL_ERROR "nm failed on the objects of ${ISA}: ${text}")
endif()
string(REPLACE "\n" ";" lines "${symbols}")
foreach(line IN LISTS lines)
  if(line MATCHES " W " AND NOT line MATCHES "fastdl::cpu::${ISA}::")
    message(FATAL_ERROR "an object of ${ISA} shares this function with other instruction sets; force-inline it "
                        "or move it into namespace fastdl::cpu::FASTDL_ISA: ${line}")
  endif()
endforeach()
