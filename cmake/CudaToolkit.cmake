# Where LibTorch has CUDA, its CMake files need an nvcc of the same major version, even for code without kernels: the one
# the user chose, else the one on the path, else the wheels that PyPI has.
cmake_path(GET Torch_DIR PARENT_PATH folder)
cmake_path(SET c10_cuda NORMALIZE ${folder}/../../lib/libc10_cuda.so)
if(NOT EXISTS ${c10_cuda})
  message(STATUS "This LibTorch has no CUDA: cuda/ is not compiled")
  set(REV_CUDA OFF)
  return()
endif()
if(CMAKE_CUDA_COMPILER OR CUDA_TOOLKIT_ROOT_DIR OR NOT "$ENV{CUDACXX}" STREQUAL "")
  return()
endif()
file(STRINGS ${c10_cuda} soname REGEX "libcudart\\.so\\.[0-9]+" LIMIT_COUNT 1)
string(REGEX REPLACE ".*libcudart\\.so\\.([0-9]+).*" "\\1" major ${soname})

set(toolkit "")
unset(rev_nvcc)  # a variable that is set is not searched for
find_program(rev_nvcc nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin NO_CACHE)
if(rev_nvcc)
  execute_process(COMMAND ${rev_nvcc} --version OUTPUT_VARIABLE text ERROR_QUIET)
  if(text MATCHES "release ${major}\\.")
    file(REAL_PATH ${rev_nvcc} rev_nvcc)
    cmake_path(GET rev_nvcc PARENT_PATH folder)
    cmake_path(GET folder PARENT_PATH toolkit)
  else()
    message(STATUS "Passing over ${rev_nvcc}: LibTorch is built for CUDA ${major}")
  endif()
endif()

if(NOT toolkit AND major EQUAL 13)
  rev_python_environment(cuda-13.0
    WHAT "the CUDA compiler that LibTorch's CMake files need, from PyPI (0.3 GB)"
    PACKAGES nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
             nvidia-cuda-cccl==13.0.85)
  if(cuda-13.0_FOUND)
    file(GLOB toolkit ${REV_CACHE}/cuda-13.0/lib/python3*/site-packages/nvidia/cu13)
    # What wheels lack: lib64, and a libX.so beside each libX.so.N.
    file(CREATE_LINK lib ${toolkit}/lib64 SYMBOLIC RESULT ignored)
    file(GLOB libraries RELATIVE ${toolkit}/lib ${toolkit}/lib/lib*.so.*)
    foreach(library ${libraries})
      string(REGEX REPLACE "\\.so\\..*" ".so" link ${library})
      file(CREATE_LINK ${library} ${toolkit}/lib/${link} SYMBOLIC RESULT ignored)
    endforeach()
  endif()
endif()

if(NOT toolkit)
  message(FATAL_ERROR "LibTorch in ${Torch_DIR} is built for CUDA ${major}, and its CMake files need an nvcc of that version. "
    "Put it on the path, or name it with -DCMAKE_CUDA_COMPILER, or (CUDA 13) let CMake fetch it from PyPI into "
    "${REV_CACHE}: -DREV_PROVIDE=ON, which the presets set.")
endif()
set(CUDA_TOOLKIT_ROOT_DIR ${toolkit} CACHE PATH "CUDA toolkit")
set(CMAKE_CUDA_COMPILER ${toolkit}/bin/nvcc CACHE FILEPATH "CUDA compiler")
