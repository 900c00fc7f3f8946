# The kernels by nvcc, where there is one; without it everything else still builds, and the same
# sources are tested under the emulation (tests/emulate). The user's CMAKE_CUDA_ARCHITECTURES,
# CMAKE_CUDA_RUNTIME_LIBRARY and CMAKE_CUDA_FLAGS are taken as they are given.
option(COPPICE_CUDA "Build the CUDA kernels where a toolkit is found" ON)

set(COPPICE_HAVE_CUDA FALSE)
if(COPPICE_CUDA AND NOT COPPICE_SANITIZE AND NOT COPPICE_FUZZ)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    set(CMAKE_CUDA_ARCHITECTURES "80;90;100;120" CACHE STRING "Real and virtual architectures")
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(COPPICE_HAVE_CUDA TRUE)
  else()
    message(STATUS "no CUDA compiler: the kernels build for the emulation alone")
  endif()
endif()

# For any target of device code: the language's level, the folders, warnings as errors.
function(coppice_device_target target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_features(${target} PRIVATE cuda_std_17)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-fno-strict-aliasing,-ffp-contract=off>)
  if(COPPICE_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
  endif()
endfunction()

file(GLOB COPPICE_CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/runtime/backend/cuda/*.c)
file(GLOB_RECURSE COPPICE_KERNEL_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
if(COPPICE_HAVE_CUDA)
  if(COPPICE_KERNEL_SOURCES)
    add_library(coppice_kernels STATIC ${COPPICE_KERNEL_SOURCES})
    set_target_properties(coppice_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON)
    coppice_device_target(coppice_kernels)
  endif()
  # The backend as a module beside the command: it brings the runtime library and the kernels, finds
  # cuBLAS on the system, and exports its one entry.
  find_package(CUDAToolkit REQUIRED)
  add_library(coppice_cuda MODULE ${COPPICE_CUDA_SOURCES})
  target_link_libraries(coppice_cuda PRIVATE coppice_flags coppice_kernels OpenMP::OpenMP_C
    CUDA::cudart_static CUDA::cublas m)
  target_include_directories(coppice_cuda PRIVATE ${CMAKE_SOURCE_DIR}/runtime ${CMAKE_SOURCE_DIR})
  target_include_directories(coppice_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_options(coppice_cuda PRIVATE -Wl,--exclude-libs,ALL)
  set_target_properties(coppice_cuda PROPERTIES C_VISIBILITY_PRESET hidden LINKER_LANGUAGE CXX
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

  # Proves that the device language is CUDA, whatever the kernels use of it.
  add_library(coppice_device_examples OBJECT ${CMAKE_SOURCE_DIR}/tests/emulate/examples.cu)
  coppice_device_target(coppice_device_examples)
  target_include_directories(coppice_device_examples PRIVATE ${CMAKE_SOURCE_DIR}/tests)
endif()
