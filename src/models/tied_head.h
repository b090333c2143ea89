#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <c10/util/Exception.h>
#include <string>

#include "rev/base/named_tensors.h"

namespace rev::models {

/// The tensors but `lm_head.weight`. Throws c10::Error, beginning with `what`, where that is there
/// and is not the tensor `table`.
inline base::NamedTensors without_tied_head(const base::NamedTensors& tensors,
                                            const std::string& table, const std::string& what) {
  base::NamedTensors others;
  at::Tensor head, rows;
  for (const auto& [name, tensor] : tensors) {
    if (name == "lm_head.weight") {
      head = tensor;
      continue;
    }
    others.emplace_back(name, tensor);
    if (name == table) rows = tensor;
  }
  TORCH_CHECK(!head.defined() || !rows.defined() || at::equal(head, rows), what,
              ": lm_head.weight differs from ", table,
              ", but this model's head is tied to its token table");
  return others;
}

}  // namespace rev::models
