#include "rev/base/named_tensors.h"

#include <ATen/core/grad_mode.h>
#include <map>
#include <sstream>

namespace rev::base {

namespace {

// "missing a, b": the label, then the names.
std::string list(const std::string& label, const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? label + " " : ", ") + name;
  return text;
}

}  // namespace

void copy_named(const NamedTensors& to, const NamedTensors& from, const std::string& what) {
  std::map<std::string, at::Tensor> given(from.begin(), from.end());
  std::vector<std::string> missing, unexpected, misshaped;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  for (const auto& [name, tensor] : to) {
    const auto found = given.find(name);
    if (found == given.end()) {
      missing.push_back(name);
      continue;
    }
    if (found->second.sizes() != tensor.sizes()) {
      std::ostringstream text;
      text << name << " (" << found->second.sizes() << " for " << tensor.sizes() << ")";
      misshaped.push_back(text.str());
    }
    copies.emplace_back(tensor, found->second);
    given.erase(found);
  }
  for (const auto& left : given) unexpected.push_back(left.first);

  std::string problems;
  for (const std::string& part : {list("missing", missing), list("unexpected", unexpected),
                                  list("of the wrong shape", misshaped)}) {
    if (!part.empty()) problems += (problems.empty() ? "" : "; ") + part;
  }
  TORCH_CHECK(problems.empty(), what, ": ", problems);

  const at::NoGradGuard no_grad;
  for (const auto& [target, source] : copies) target.copy_(source);
}

}  // namespace rev::base
