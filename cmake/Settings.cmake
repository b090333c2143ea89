# How this project's own targets are compiled, and where its build tree puts programs.
if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "build type" FORCE)
  endif()
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
endif()

find_program(REV_CCACHE ccache)
mark_as_advanced(REV_CCACHE)
if(REV_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # A precompiled header's time and macros change without its meaning changing.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${REV_CCACHE})
endif()

# rev_compile(target): the flags that every C++ source of ours is compiled with.
function(rev_compile target)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF VISIBILITY_INLINES_HIDDEN ON)
  target_compile_features(${target} PRIVATE cxx_std_20)
  # A fused multiply-add rounds once where the formula rounds twice: without it every compiler gives the same bits.
  # at::parallel_for is a template: it runs in parallel only in code that is compiled with OpenMP, as LibTorch is.
  target_compile_options(${target} PRIVATE -ffp-contract=off ${OpenMP_CXX_FLAGS} -Wall -Wextra -Wshadow
                         -Wnon-virtual-dtor -Woverloaded-virtual $<$<BOOL:${REV_WERROR}>:-Werror>)
  target_link_options(${target} PRIVATE ${OpenMP_CXX_FLAGS})
endfunction()
