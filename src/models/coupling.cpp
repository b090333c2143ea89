#include "rev/models/coupling.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>
#include <utility>

#include "rev/engine/retrofit.h"
#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/schemes/residual.h"
#include "rev/schemes/revffn.h"

namespace rev::models {

const std::vector<std::string>& scheme_names() {
  static const std::vector<std::string> names = {
      "residual", "midpoint", "midpoint-a", "leapfrog", "hamiltonian", "revffn", "retrofit"};
  return names;
}

namespace {

engine::RetrofitOptions retrofit_options(const Coupling& coupling) {
  return {coupling.a.empty() ? std::vector{-0.125} : coupling.a, coupling.inner};
}

}  // namespace

std::shared_ptr<const schemes::Scheme> make_scheme(const Coupling& coupling, int64_t n_layers) {
  const std::string& name = coupling.scheme;
  if (name == "residual") return std::make_shared<schemes::Residual>();
  if (name == "midpoint") return std::make_shared<schemes::Midpoint>(coupling.h);
  if (name == "leapfrog") return std::make_shared<schemes::Leapfrog>(coupling.h);
  if (name == "revffn") {
    schemes::RevFFNOptions options;
    options.low_bits = coupling.low_bits;
    return std::make_shared<schemes::RevFFN>(options);
  }
  if (name == "hamiltonian") {
    TORCH_CHECK(coupling.a.size() <= 1, "hamiltonian takes one a, got ", coupling.a.size());
    return std::make_shared<schemes::Hamiltonian>(coupling.a.empty() ? 1.0 : coupling.a[0]);
  }
  if (name == "retrofit") return engine::retrofit_scheme(retrofit_options(coupling), n_layers);
  TORCH_CHECK(name == "midpoint-a", "unknown scheme \"", name, "\", expected one of ",
              c10::Join(", ", scheme_names()));
  const auto draw = coupling.a_pairs ? schemes::MidpointA::draw_pairs : schemes::MidpointA::draw;
  return std::make_shared<schemes::MidpointA>(
      coupling.a.empty() ? draw(n_layers, coupling.a_seed) : coupling.a, coupling.h);
}

engine::Stack make_stack(Coupling& coupling, std::vector<std::vector<engine::FieldPtr>> layers) {
  std::shared_ptr<const schemes::Scheme> scheme;
  if (coupling.scheme == "retrofit") {
    std::vector<engine::FieldPtr> fields;
    for (const auto& layer : layers) fields.push_back(layer.at(0));
    const engine::Retrofit made = engine::retrofit(fields, retrofit_options(coupling));
    for (size_t l = 0; l < layers.size(); ++l) layers[l] = {made.fields[l]};
    scheme = made.scheme;
  } else {
    scheme = make_scheme(coupling, static_cast<int64_t>(layers.size()));
  }
  if (!coupling.memory) {
    coupling.memory = scheme->invertible() ? engine::Memory::Invert : engine::Memory::Store;
  }
  engine::StackOptions options;
  options.memory = *coupling.memory;
  if (coupling.scheme == "residual") options.state.dtype = at::kFloat;
  if (coupling.state) options.state = *coupling.state;
  return engine::Stack(scheme, std::move(layers), options);
}

}  // namespace rev::models
