// A program outside this project: it includes, links and calls rev as any user's would, in C++17.
#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>

#include <rev/kernels/grid.h>

int main() {
  at::Tensor state = rev::kernels::encode(at::ones({2, 3}), at::kInt, /*bits=*/16);
  rev::kernels::update_(state, at::ones({2, 3}), /*c=*/0.5, /*bits=*/16);
  rev::kernels::update_(state, at::ones({2, 3}), /*c=*/-0.5, /*bits=*/16);
  return rev::kernels::decode(state, /*bits=*/16).equal(at::ones({2, 3})) ? 0 : 1;
}
