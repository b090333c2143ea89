# Tests of the kernels in cuda/. They need no GPU: the .cu files that nvcc compiles are compiled as C++ here, and run
# on the CPU by tests/emulator. The same tests are linked with nvcc's code, for machines that have a GPU.

# Sets REV_EMULATOR to whether kernels can be emulated here.
set(REV_EMULATOR OFF)
set(REV_CUDA_INCLUDE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
if(NOT REV_CUDA_INCLUDE AND CUDA_TOOLKIT_ROOT_DIR)
  set(REV_CUDA_INCLUDE ${CUDA_TOOLKIT_ROOT_DIR}/include)
endif()
if(NOT REV_CUDA_INCLUDE)
  rev_skip("the tests of the CUDA kernels" "there are no CUDA headers, as this LibTorch has no CUDA")
elseif(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  rev_skip("the tests of the CUDA kernels" "their emulator switches stacks on x86-64 alone")
else()
  set(REV_EMULATOR ON)
endif()

list(APPEND REV_CUDA_INCLUDE ${rev_cublaslt_header})

set(REV_SANITIZERS -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)

# rev_emulated_objects(target flags file...): objects with the includes and flags that emulated programs share.
function(rev_emulated_objects target flags)
  add_library(${target} OBJECT ${ARGN})
  rev_compile(${target})
  # -O1: they are compiled several times, and run for a second or two.
  target_compile_options(${target} PRIVATE -O1 -g1 ${flags})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
  target_include_directories(${target} SYSTEM PRIVATE ${REV_CUDA_INCLUDE})
  target_link_libraries(${target} PRIVATE GTest::gtest)
endfunction()

# rev_emulator(): the objects of tests/emulator and of the tests' support, once for all programs.
function(rev_emulator)
  set(folder ${PROJECT_SOURCE_DIR}/tests)
  list(TRANSFORM ARGN PREPEND ${folder}/emulator/ OUTPUT_VARIABLE sources)
  list(APPEND sources ${folder}/cuda/support/emulated.cpp)
  rev_emulated_objects(rev_emulator "" ${sources})
  rev_emulated_objects(rev_races "" ${folder}/emulator/races.cpp)
  rev_emulated_objects(rev_no_races "" ${folder}/emulator/no_races.cpp)
  rev_emulated_objects(rev_emulator_asan "${REV_SANITIZERS}" ${sources} ${folder}/emulator/no_races.cpp)
endfunction()

# rev_emulated_program(target prefix flags object-library...): a test program of these objects; ctest's names of its
# tests start with the prefix.
function(rev_emulated_program target prefix flags)
  list(TRANSFORM ARGN REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)
  add_executable(${target} ${objects})
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_options(${target} PRIVATE ${flags} ${OpenMP_CXX_FLAGS})
  target_link_libraries(${target} PRIVATE GTest::gtest GTest::gtest_main)
  gtest_discover_tests(${target} TEST_PREFIX ${prefix} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60)
endfunction()

# rev_kernel_tests(name KERNELS file.cu... TESTS file_test.cpp... [ASAN file_test.cpp...] [RACE file_test.cpp...]):
# programs from kernels and their tests,
#   test_<name>       as they are; ctest's names start with "emulated."
#   test_<name>_asan  with the address and undefined-behaviour sanitizers; "asan."
#   test_<name>_race  with the race finder: the kernels, and nothing else, are compiled with -fsanitize=thread, whose
#                     calls the emulator answers, not the sanitizer's library; "race."
# and with ON_DEVICE, where there is nvcc,
#   test_<name>_device  with nvcc's code; the names end in "_CUDA", and they are skipped where there is no GPU.
# ASAN and RACE are tests for one of the programs alone. Where the whole build has sanitizers, test_<name> is the one
# program that goes with them.
function(rev_kernel_tests name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "ON_DEVICE" "" "KERNELS;TESTS;ASAN;RACE")
  # A property of this folder's targets: rev_cuda, in another, has the same files as CUDA.
  set_source_files_properties(${arg_KERNELS} PROPERTIES LANGUAGE CXX
    COMPILE_OPTIONS "-include;${PROJECT_SOURCE_DIR}/tests/emulator/emulator.h;-Wno-unknown-pragmas")
  set(prefix test_${name})
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=.*address")
    list(APPEND arg_TESTS ${arg_ASAN})
  endif()
  # Kernels come first: of functions that several objects have, the linker takes the first, and the race finder sees
  # what happens in the kernels' alone.
  rev_emulated_objects(${prefix}_kernels "" ${arg_KERNELS})
  rev_emulated_objects(${prefix}_tests "" ${arg_TESTS})
  rev_emulated_program(${prefix} emulated. "" ${prefix}_kernels ${prefix}_tests rev_emulator rev_no_races)
  if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
    rev_emulated_objects(${prefix}_asan_objects "${REV_SANITIZERS}" ${arg_KERNELS} ${arg_TESTS} ${arg_ASAN})
    rev_emulated_program(${prefix}_asan asan. "${REV_SANITIZERS}" ${prefix}_asan_objects rev_emulator_asan)
    rev_emulated_objects(${prefix}_race_kernels -fsanitize=thread ${arg_KERNELS})
    set(race_tests ${prefix}_tests)
    if(arg_RACE)
      rev_emulated_objects(${prefix}_race_tests "" ${arg_RACE})
      list(APPEND race_tests ${prefix}_race_tests)
    endif()
    rev_emulated_program(${prefix}_race race. "" ${prefix}_race_kernels ${race_tests} rev_emulator rev_races)
  endif()
  if(arg_ON_DEVICE AND TARGET rev_cuda)
    add_executable(${prefix}_device $<TARGET_OBJECTS:${prefix}_tests> ${PROJECT_SOURCE_DIR}/tests/cuda/support/gpu.cpp)
    rev_compile(${prefix}_device)
    set_target_properties(${prefix}_device PROPERTIES LINKER_LANGUAGE CXX)
    target_include_directories(${prefix}_device PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${prefix}_device PRIVATE rev_cuda torch::cudart GTest::gtest GTest::gtest_main)
    gtest_discover_tests(${prefix}_device TEST_SUFFIX _CUDA DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60)
  endif()
endfunction()

# rev_emulated_library(kernels file.cpp...): the library once more, with the operators of the room `kernels` on the emulated
# kernels (an object library) and not on the CPU path; the files take the place of src/kernels/cuda.cpp. With it
#   test_kernels_emulated  the room's tests; ctest's names start with "kernels-emulated."
#   rev-gpt2-emulated      the trainer, which must end with the same bytes as rev-gpt2
function(rev_emulated_library kernels)
  get_target_property(sources rev_kernels SOURCES)
  list(FILTER sources EXCLUDE REGEX "cuda,no_cuda")
  add_library(rev_kernels_emulated OBJECT ${sources} ${ARGN})
  rev_compile(rev_kernels_emulated)
  get_target_property(options rev_kernels COMPILE_OPTIONS)
  target_compile_options(rev_kernels_emulated PRIVATE ${options})
  target_compile_definitions(rev_kernels_emulated PRIVATE FMT_HEADER_ONLY REV_HAS_CUDA=1)
  target_include_directories(rev_kernels_emulated PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include
                                                          ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(rev_kernels_emulated PRIVATE torch)
  set(emulated $<TARGET_OBJECTS:rev_kernels_emulated> $<TARGET_OBJECTS:${kernels}> $<TARGET_OBJECTS:rev_emulator>
               $<TARGET_OBJECTS:rev_no_races>)

  add_executable(test_kernels_emulated $<TARGET_OBJECTS:test_kernels> ${PROJECT_SOURCE_DIR}/tests/emulator/room_tests.cpp
                                       ${emulated})
  rev_compile(test_kernels_emulated)
  target_include_directories(test_kernels_emulated PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  set_target_properties(test_kernels_emulated PROPERTIES LINKER_LANGUAGE CXX)
  target_link_options(test_kernels_emulated PRIVATE ${OpenMP_CXX_FLAGS})
  target_link_libraries(test_kernels_emulated PRIVATE rev_base torch GTest::gtest GTest::gtest_main)
  # Without those of the CPU path alone.
  gtest_discover_tests(test_kernels_emulated TEST_PREFIX kernels-emulated. TEST_FILTER "-*OnTheCpu*" DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60)

  if(NOT REV_EXAMPLES)
    return()
  endif()
  get_property(objects GLOBAL PROPERTY REV_OBJECTS)
  list(FILTER objects EXCLUDE REGEX ":rev_(kernels|cuda)>")
  add_executable(rev-gpt2-emulated $<TARGET_OBJECTS:rev-gpt2> ${objects} ${emulated})
  set_target_properties(rev-gpt2-emulated PROPERTIES LINKER_LANGUAGE CXX)
  target_link_options(rev-gpt2-emulated PRIVATE ${OpenMP_CXX_FLAGS})
  target_link_libraries(rev-gpt2-emulated PRIVATE torch GTest::gtest ${REV_LIBRARIES_data})
  add_dependencies(test_train rev-gpt2-emulated)  # which its tests run
endfunction()
