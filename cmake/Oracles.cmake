# The tests' own Python: Hugging Face transformers to compare with, beside the torch that this build uses, and the
# clang-format whose version decides. Sets REV_TEST_PYTHON and REV_CLANG_FORMAT, empty where they are not to be had.
set(packages transformers==4.57.6 clang-format==14.0.6)

# LibTorch inside a Python package: the environment takes that package, and the Python that it belongs to.
set(python ${REV_PYTHON})
set(site "")
if(EXISTS ${TORCH_INSTALL_PREFIX}/__init__.py)
  cmake_path(GET TORCH_INSTALL_PREFIX PARENT_PATH site)
  cmake_path(SET folder NORMALIZE ${site}/../../../bin/python3)
  if(EXISTS ${folder})
    set(python ${folder})
  endif()
endif()

string(SHA256 hash "${packages} ${python} ${site}")
string(SUBSTRING ${hash} 0 8 hash)
set(name test-${hash})
rev_python_environment(${name} PYTHON ${python} BESIDE ${site} PACKAGES ${packages}
  WHAT "the Python packages that tests compare with (0.2 GB)")

if(${name}_FOUND AND NOT REV_TEST_PYTHON)
  set(python ${REV_CACHE}/${name}/bin/python)
  execute_process(COMMAND ${python} -c "import torch, transformers" RESULT_VARIABLE result ERROR_QUIET)
  if(result EQUAL 0)
    set(REV_TEST_PYTHON ${python} CACHE INTERNAL "")
  endif()
endif()
if(NOT REV_TEST_PYTHON)
  message(STATUS "Tests that compare with Python are skipped: no environment with torch and transformers "
                 "(REV_PROVIDE=ON makes it where LibTorch is Python's torch)")
endif()

find_program(REV_CLANG_FORMAT NAMES clang-format clang-format-14 HINTS ${REV_CACHE}/${name}/bin DOC "clang-format 14")
mark_as_advanced(REV_CLANG_FORMAT)
