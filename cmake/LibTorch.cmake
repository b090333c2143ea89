# Finds LibTorch, and the CUDA toolkit that its CMake files insist on: what the user points at (Torch_DIR,
# CMAKE_PREFIX_PATH), else the torch of python3, else a private environment in the cache folder.
set(REV_TORCH_LEAST 2.11)
set(REV_TORCH_WHEEL 2.11.0)

# rev_torch_version(folder): sets `version` to that of the LibTorch whose TorchConfig.cmake is in the folder, or to "".
function(rev_torch_version folder)
  set(version "" PARENT_SCOPE)
  if(EXISTS ${folder}/TorchConfigVersion.cmake)
    file(STRINGS ${folder}/TorchConfigVersion.cmake line REGEX "^set\\(PACKAGE_VERSION " LIMIT_COUNT 1)
    string(REGEX MATCH "[0-9]+\\.[0-9.]+" version "${line}")
    set(version "${version}" PARENT_SCOPE)
  endif()
endfunction()

# rev_try_torch(folder): makes it Torch_DIR where it holds a LibTorch that is new enough and there is none yet.
macro(rev_try_torch folder)
  if(NOT Torch_DIR)
    rev_torch_version("${folder}")
    if(version VERSION_GREATER_EQUAL REV_TORCH_LEAST)
      set(Torch_DIR "${folder}" CACHE PATH "folder of LibTorch's TorchConfig.cmake" FORCE)
    elseif(version)
      message(STATUS "Passing over LibTorch ${version} in ${folder}: ${REV_TORCH_LEAST} or later is needed")
    endif()
  endif()
endmacro()

if(Torch_DIR)
  rev_torch_version(${Torch_DIR})
  if(NOT version VERSION_GREATER_EQUAL REV_TORCH_LEAST)
    message(FATAL_ERROR "Torch_DIR is ${Torch_DIR}: expected the share/cmake/Torch folder of LibTorch ${REV_TORCH_LEAST} "
                        "or later, found version '${version}'. Correct it, or search again with -U Torch_DIR.")
  endif()
endif()

if(NOT Torch_DIR)
  unset(rev_torch_folder)  # a variable that is set is not searched for
  find_path(rev_torch_folder TorchConfig.cmake HINTS ${Torch_ROOT} ENV Torch_ROOT PATH_SUFFIXES share/cmake/Torch NO_CACHE)
  rev_try_torch("${rev_torch_folder}")
endif()

if(NOT Torch_DIR AND REV_PYTHON)
  execute_process(
    COMMAND ${REV_PYTHON} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE folder ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  rev_try_torch("${folder}/share/cmake/Torch")
endif()

if(NOT Torch_DIR)
  rev_python_environment(torch-${REV_TORCH_WHEEL} PACKAGES torch==${REV_TORCH_WHEEL}
    WHAT "LibTorch ${REV_TORCH_WHEEL} from PyPI (2.7 GB to download, 4.7 GB on disk, shared by all build trees). \
To use one that you have instead, stop here and pass -DTorch_DIR=<torch>/share/cmake/Torch")
  if(torch-${REV_TORCH_WHEEL}_FOUND)
    file(GLOB folder ${REV_CACHE}/torch-${REV_TORCH_WHEEL}/lib/python3*/site-packages/torch/share/cmake/Torch)
    rev_try_torch("${folder}")
  endif()
endif()

if(NOT Torch_DIR)
  message(FATAL_ERROR "LibTorch ${REV_TORCH_LEAST} or later was not found. Either
  - point to it: -DTorch_DIR=<torch>/share/cmake/Torch, or its folder in CMAKE_PREFIX_PATH;
  - or install it for the python3 on your path: python3 -m pip install torch==${REV_TORCH_WHEEL};
  - or let CMake install it privately in ${REV_CACHE}: -DREV_PROVIDE=ON, which the presets set \
(Python 3.10 to 3.14 with venv; on Debian: apt install python3-venv).")
endif()

include(CudaToolkit)
set(REV_DEVICE $<IF:$<BOOL:${REV_CUDA}>,cuda,no_cuda>)

# LibTorch's CMake files: CMake 3.25 knows no CUDA 20; left alone they ask for architectures that the compiler has
# dropped; they add flags of theirs to every .cu file; they warn of libraries that nobody needs.
set(CMAKE_CUDA_STANDARD 17)
set(TORCH_CUDA_ARCH_LIST "8.0;9.0" CACHE STRING "GPU architectures named to LibTorch's CMake files")
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
set(rev_saved_level ${CMAKE_MESSAGE_LOG_LEVEL})
set(rev_saved_flags ${CMAKE_CUDA_FLAGS})
set(CMAKE_MESSAGE_LOG_LEVEL ERROR)
find_package(Torch ${REV_TORCH_LEAST} REQUIRED)
set(CMAKE_MESSAGE_LOG_LEVEL ${rev_saved_level})
set(CMAKE_CUDA_FLAGS "${rev_saved_flags}")
if(TARGET caffe2::mkl AND NOT MKL_FOUND)
  set_property(TARGET caffe2::mkl PROPERTY INTERFACE_LINK_DIRECTORIES)  # /lib/intel64 and the like
endif()
string(REGEX MATCH "^[0-9]+\\.[0-9]+" REV_TORCH_MINOR ${Torch_VERSION})
message(STATUS "LibTorch ${Torch_VERSION}: ${TORCH_INSTALL_PREFIX}")

# NVTX, by which profilers show what runs: headers alone, in the toolkit or among the wheels that PyPI's torch brings.
set(REV_NVTX_INCLUDE "")
if(REV_CUDA)
  unset(rev_nvtx)  # a variable that is set is not searched for
  find_path(rev_nvtx nvtx3/nvToolsExt.h NO_CACHE
    HINTS ${CUDA_TOOLKIT_ROOT_DIR}/include ${CUDAToolkit_INCLUDE_DIRS} ${TORCH_INSTALL_PREFIX}/../nvidia/cu13/include)
  if(NOT rev_nvtx)
    message(FATAL_ERROR "LibTorch in ${Torch_DIR} has CUDA, and so nvtx3/nvToolsExt.h is needed: it is in the CUDA toolkit, and in the "
      "wheel nvidia-nvtx, which PyPI's torch brings along.")
  endif()
  set(REV_NVTX_INCLUDE ${rev_nvtx})
endif()
