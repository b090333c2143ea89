// The launch of a kernel.
#pragma once

#include <cstddef>
#include <cuda_runtime.h>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace rev::emulator {

/// A mistake in a kernel or its launch.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The orders in which blocks, warps and lanes can run: 0 forward, 1 backward, the others shuffled.
constexpr unsigned kSchedules = 5;

/// Chooses the order for the launches from here on; 0 until it is called.
void choose_schedule(unsigned schedule);

/// The most blocks that launches from here on get, also where they ask for more: a kernel that
/// strides over what is beyond its blocks does the same work with fewer. 0: as many as are asked
/// for.
void limit_blocks(unsigned most);

/// Runs `thread(argument)` in every thread of the launch; `kernel` tells kernels apart. The
/// argument's bytes are the emulator's, as a GPU's parameters are no global memory. Launches by
/// several threads of the program wait for each other. Throws Error.
void run(const cudaLaunchConfig_t& config, const void* kernel, void (*thread)(const void*),
         const void* argument, std::size_t bytes);

/// In place of cudaLaunchKernelEx: comes back when the kernel is done. Throws Error.
template <class... P, class... A>
cudaError_t launch_kernel(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                          A&&... arguments) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> values;
  };
  const Call call{kernel, std::tuple<P...>(std::forward<A>(arguments)...)};
  const auto thread = [](const void* p) {
    const Call& own = *static_cast<const Call*>(p);
    std::apply(own.kernel, own.values);
  };
  run(*config, reinterpret_cast<const void*>(kernel), thread, &call, sizeof call);
  return cudaSuccess;
}

/// The block's dynamic shared memory: exactly as many bytes as the launch says, all of them 0xff
/// (not a number) when the block starts.
void* dynamic_shared();

}  // namespace rev::emulator
