# What proves and reports the kernels, for both of their builds. Included last: needs cuda.cmake's
# coppice_kernels (where there is a toolkit) and the tests' coppice_emulated_kernels.
#
#   kernel_check            by nvcc, for a GPU: one line a case, exit code 1 on any error
#   kernel_check_emulated   the same sources over the emulation; run by the tests
#   kernel_report           registers, spills, shared memory, resident blocks; fails on a spill
file(GLOB COPPICE_KERNEL_CHECK CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/kernel_check/*.c)

function(coppice_kernel_check name)
  add_executable(${name} ${COPPICE_KERNEL_CHECK})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/kernel_check)
  target_link_libraries(${name} PRIVATE coppice_oracles ${ARGN})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
endfunction()

if(TARGET coppice_kernels)
  # A C program that calls the runtime: linked by nvcc, which adds the runtime that the user chose.
  find_package(CUDAToolkit REQUIRED)
  function(coppice_uses_cuda name)
    target_include_directories(${name} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CUDA)
  endfunction()
  coppice_kernel_check(kernel_check coppice_kernels)
  coppice_uses_cuda(kernel_check)
  add_test(NAME test_kernel_check_gpu COMMAND kernel_check
    --shapes configs/shapes/edge_shapes.json --shapes configs/shapes/tree_shapes.json --shrink 8
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  coppice_gpu_test(test_kernel_check_gpu)
  add_executable(gpu_bench bench/gpu_bench.c)
  target_link_libraries(gpu_bench PRIVATE coppice_kernels coppice_runtime)
  set_target_properties(gpu_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  coppice_uses_cuda(gpu_bench)

  add_custom_target(kernel_report
    COMMAND bash ${CMAKE_SOURCE_DIR}/kernels/report.sh ${CMAKE_CUDA_COMPILER}
      ${CMAKE_CUDA_ARCHITECTURES}
    COMMAND_EXPAND_LISTS VERBATIM WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  add_test(NAME test_kernel_report COMMAND bash ${CMAKE_SOURCE_DIR}/kernels/report.sh
    ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_ARCHITECTURES} COMMAND_EXPAND_LISTS)
  add_test(NAME test_kernel_ptx
    COMMAND bash ${CMAKE_SOURCE_DIR}/kernels/ptx_test.sh ${CMAKE_CUDA_COMPILER})
endif()

if(TARGET coppice_emulated_kernels)
  coppice_kernel_check(kernel_check_emulated coppice_emulated_kernels coppice_cuda_emulation)
  # Every head size and edge; the published trees, shortened, are left out under sanitizers.
  add_test(NAME test_kernel_check COMMAND kernel_check_emulated
    --shapes configs/shapes/edge_shapes.json WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  # Wrong kernels must fail: a NaN behind a segment's end, wrong keys, V read askew.
  foreach(mutant attention_tail attention_zero_page attention_swizzle)
    add_test(NAME test_kernel_check_fails_${mutant} COMMAND kernel_check_emulated --no-step
      --shapes configs/shapes/edge_shapes.json WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(test_kernel_check_fails_${mutant} PROPERTIES
      ENVIRONMENT COPPICE_MUTANT=${mutant}
      PASS_REGULAR_EXPRESSION "FAILED tree .*, error ([1-9][0-9]+|nan).* cases, [1-9][0-9]* failed")
  endforeach()
  if(NOT COPPICE_SANITIZE)
    add_test(NAME test_kernel_check_shapes COMMAND kernel_check_emulated --no-step
      --shapes configs/shapes/tree_shapes.json --shrink 64 --kv-heads 1 --heads 2
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  endif()
endif()
