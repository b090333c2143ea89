// A CUDA stream as the launchers' callers name it, without CUDA's headers.
#pragma once

struct CUstream_st;

namespace rev::cuda {

using Stream = CUstream_st*;  ///< cudaStream_t

}  // namespace rev::cuda
