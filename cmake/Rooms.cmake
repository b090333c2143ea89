# A room is a static library rev_<room>; all rooms together are the shared library rev::rev.
include(Layers)
include(GoogleTest)

# rev_room(name file.cpp...): the library rev_<name> from src/<name>/. It links what Layers.cmake lets it include.
function(rev_room name)
  list(TRANSFORM ARGN PREPEND ${PROJECT_SOURCE_DIR}/src/${name}/)
  list(TRANSFORM REV_LAYERS_${name} PREPEND rev_ OUTPUT_VARIABLE used)
  add_library(rev_${name} STATIC ${ARGN})
  rev_compile(rev_${name})
  set_target_properties(rev_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_features(rev_${name} PUBLIC cxx_std_17)
  target_compile_options(rev_${name} PRIVATE -Wconversion)
  target_compile_definitions(rev_${name} PUBLIC FMT_HEADER_ONLY)
  target_include_directories(rev_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include
                                         PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(rev_${name} PUBLIC ${used} torch PRIVATE ${REV_LIBRARIES_${name}})
  set_property(GLOBAL APPEND PROPERTY REV_OBJECTS $<TARGET_OBJECTS:rev_${name}>)
endfunction()

# rev_cuda(file.cu... file.cpp...): the kernels in cuda/ and the code there that calls NVIDIA's libraries. They know no
# LibTorch; the room `kernels` calls them.
function(rev_cuda)
  if(NOT REV_CUDA)
    return()
  endif()
  list(TRANSFORM ARGN PREPEND ${PROJECT_SOURCE_DIR}/cuda/)
  add_library(rev_cuda STATIC ${ARGN})
  set_target_properties(rev_cuda PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_ARCHITECTURES "80-real;90"
                        CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_include_directories(rev_cuda PUBLIC ${PROJECT_SOURCE_DIR})
  # No contraction, for the bits' sake; and a kernel that runs out of registers is a mistake.
  set(flags -fmad=false -Xptxas=-Werror,-warn-spills,-warn-lmem-usage -Xcompiler=-Wall,-Wextra,-ffp-contract=off
            $<$<BOOL:${REV_WERROR}>:-Werror=all-warnings>)
  set(host_flags -Wall -Wextra -Wshadow -Wconversion $<$<BOOL:${REV_WERROR}>:-Werror>)
  target_compile_options(rev_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${flags}>" "$<$<COMPILE_LANGUAGE:CXX>:${host_flags}>")
  target_link_libraries(rev_cuda PRIVATE torch::cudart rev_cublaslt)
  target_link_libraries(rev_kernels PRIVATE rev_cuda torch::cudart)
  set_property(GLOBAL APPEND PROPERTY REV_OBJECTS $<TARGET_OBJECTS:rev_cuda>)
endfunction()

# rev_library(): the shared library rev of all rooms. Of their symbols it exports those of namespace rev (rev.map).
function(rev_library)
  get_property(objects GLOBAL PROPERTY REV_OBJECTS)
  set(script ${PROJECT_SOURCE_DIR}/cmake/rev.map)
  add_library(rev SHARED ${objects})
  add_library(rev::rev ALIAS rev)
  set_target_properties(rev PROPERTIES LINKER_LANGUAGE CXX INSTALL_RPATH_USE_LINK_PATH ON LINK_DEPENDS ${script}
                        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_compile_features(rev PUBLIC cxx_std_17)
  target_include_directories(rev PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_definitions(rev PUBLIC FMT_HEADER_ONLY)
  target_link_libraries(rev PUBLIC torch PRIVATE PCRE2::8BIT utf8proc::utf8proc
                        $<$<BOOL:${REV_CUDA}>:torch::cudart> $<$<BOOL:${REV_CUDA}>:rev_cublaslt>)
  target_link_options(rev PRIVATE ${OpenMP_CXX_FLAGS} LINKER:--version-script=${script},--no-undefined)
endfunction()

# rev_test(room file_test.cpp...): the program test_<room> from tests/<room>/, linked with that room alone; each of its
# tests is one of ctest's, with the environment REV_TEST_ENVIRONMENT.
function(rev_test room)
  list(TRANSFORM ARGN PREPEND ${PROJECT_SOURCE_DIR}/tests/${room}/)
  add_executable(test_${room} ${ARGN})
  rev_compile(test_${room})
  target_include_directories(test_${room} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(test_${room} PRIVATE rev_${room} GTest::gtest GTest::gtest_main)
  target_precompile_headers(test_${room} REUSE_FROM rev_test_pch)
  gtest_discover_tests(test_${room} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60)
  # Beside the discovery: its PROPERTIES cannot carry a list, and an environment is one.
  set(script ${CMAKE_CURRENT_BINARY_DIR}/test_${room}_environment.cmake)
  file(WRITE ${script} "if(test_${room}_TESTS)
  set_tests_properties(\${test_${room}_TESTS} PROPERTIES ENVIRONMENT \"${REV_TEST_ENVIRONMENT}\")
endif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${script})
endfunction()

# rev_program(name file.cpp...): an installed program from examples/, linked with rev::rev as a user's would be.
function(rev_program name)
  add_executable(${name} ${ARGN})
  rev_compile(${name})
  set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}" INSTALL_RPATH_USE_LINK_PATH ON)
  target_compile_options(${name} PRIVATE -Wconversion)
  target_link_libraries(${name} PRIVATE rev::rev CLI11::CLI11)
  install(TARGETS ${name})
endfunction()
