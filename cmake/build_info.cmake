# Writes coppice_build.h: the commit and the flags that results name. Run at every build; the file
# changes only when its content does, so nothing is compiled again for nothing.
execute_process(COMMAND git -C "${SOURCE}" rev-parse HEAD RESULT_VARIABLE failed
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
execute_process(COMMAND git -C "${SOURCE}" status --porcelain --untracked-files=no
  OUTPUT_VARIABLE changes ERROR_QUIET)
set(text "#pragma once\n#define COPPICE_BUILD_TYPE \"${BUILD_TYPE}\"\n#define COPPICE_FLAGS \"${FLAGS}\"\n")
if(NOT failed)
  string(LENGTH "${changes}" dirty)
  if(dirty)
    set(dirty 1)
  endif()
  string(APPEND text "#define COPPICE_COMMIT \"${commit}\"\n#define COPPICE_DIRTY ${dirty}\n")
endif()
file(CONFIGURE OUTPUT "${OUT}" CONTENT "${text}" @ONLY)
