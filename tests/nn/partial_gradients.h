// Gradients where not everything is asked for: what feed-forward layers promise alike.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <vector>

#include "support/gradcheck.h"

namespace rev::nn {

/// With and without its value a module of [..,8] -> [..,8] has the same gradients, in every bit.
template <class Module>
void expect_gradients_do_not_need_the_value(Module& mlp) {
  std::vector<std::vector<at::Tensor>> grads;
  const at::Tensor x = support::leaf({3, 8}, at::kFloat), g = torch::randn({3, 8});
  std::vector<at::Tensor> inputs = mlp->parameters();
  inputs.push_back(x);
  for (const bool need_value : {true, false}) {
    const at::Tensor y = mlp->forward(x, need_value);
    EXPECT_EQ(y.sizes(), x.sizes());
    grads.push_back(torch::autograd::grad({y}, inputs, {g}));
  }
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(at::equal(grads[0][i], grads[1][i])) << i;
}

/// apply(all), whose gradient is g, gives each subset of `all` the gradients that it has among all
/// of them, in every bit.
template <class Apply>
void expect_frozen_inputs_change_no_other_gradient(const Apply& apply,
                                                   const std::vector<at::Tensor>& all,
                                                   const at::Tensor& g) {
  const auto every = torch::autograd::grad({apply(all)}, all, {g});
  for (unsigned wanted = 1; wanted < 1u << all.size(); ++wanted) {
    std::vector<at::Tensor> inputs, leaves;
    for (size_t i = 0; i < all.size(); ++i) {
      inputs.push_back((wanted >> i & 1) != 0 ? all[i] : all[i].detach());
      if ((wanted >> i & 1) != 0) leaves.push_back(all[i]);
    }
    const auto some = torch::autograd::grad({apply(inputs)}, leaves, {g});
    size_t k = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      if ((wanted >> i & 1) == 0) continue;
      EXPECT_TRUE(at::equal(some[k++], every[i])) << wanted << ' ' << i;
    }
  }
}

}  // namespace rev::nn
