# rev_cublaslt: cublasLt for cuda/matmul.cpp. The library is the one that LibTorch loads, as a process needs but one: wheels
# have it beside torch, with its header; archives have it in their lib folder, and the header is the toolkit's.
add_library(rev_cublaslt INTERFACE)
unset(rev_cublaslt_header)  # a variable that is set is not searched for
unset(rev_cublaslt_library)
if(CUDAToolkit_FOUND)
  set(major ${CUDAToolkit_VERSION_MAJOR})
  cmake_path(SET wheels NORMALIZE ${TORCH_INSTALL_PREFIX}/../nvidia)
  find_path(rev_cublaslt_header cublasLt.h NO_CACHE
    HINTS ${wheels}/cu${major}/include ${wheels}/cublas/include ${CUDAToolkit_INCLUDE_DIRS})
  find_library(rev_cublaslt_library NAMES libcublasLt.so.${major} cublasLt NO_CACHE
    HINTS ${TORCH_INSTALL_PREFIX}/lib ${wheels}/cu${major}/lib ${wheels}/cublas/lib ${CUDAToolkit_LIBRARY_DIR})
  if(NOT rev_cublaslt_header OR NOT rev_cublaslt_library)
    message(FATAL_ERROR "LibTorch in ${Torch_DIR} has CUDA, and so cublasLt.h and libcublasLt.so.${major} are needed, which were "
      "found in: ${rev_cublaslt_header}, ${rev_cublaslt_library}. They are in the wheel nvidia-cublas, which PyPI's torch brings "
      "along, and in the CUDA toolkit.")
  endif()
  target_include_directories(rev_cublaslt SYSTEM INTERFACE ${rev_cublaslt_header})
  # To the linker's option, not by name: CMake would want the toolkit's folder, where cudart is, to come before this one and
  # after it where each has both libraries. Ours comes first, so that LibTorch finds the libraries that it was built with.
  cmake_path(GET rev_cublaslt_library PARENT_PATH folder)
  target_link_libraries(rev_cublaslt INTERFACE -Wl,${rev_cublaslt_library})
  target_link_options(rev_cublaslt INTERFACE LINKER:-rpath,${folder})
endif()
