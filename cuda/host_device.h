// Functions that the CPU path and the kernels share.
#pragma once

#ifdef __CUDACC__
#define REV_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define REV_HOST_DEVICE inline
#endif
