#include "engine/linearise.h"

#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <memory>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>
#include <unordered_set>
#include <utility>

namespace rev::engine {
namespace {

using at::Tensor;
namespace autograd = torch::autograd;

// Leads the gradient edges of tensors to nodes of our own for a scope.
class PrivateEdges {
 public:
  explicit PrivateEdges(const std::vector<Tensor>& tensors) {
    for (const Tensor& t : tensors) {
      if (!t.requires_grad()) {
        edges_.emplace_back();
        continue;
      }
      // An accumulator of an alias: right in shape and dtype, and free of the tensor's hooks.
      const Tensor alias = t.detach().requires_grad_();
      autograd::Edge own = autograd::impl::gradient_edge(alias);
      Swap swap{t, autograd::impl::gradient_edge(t)};
      point(swap, own);
      edges_.push_back(std::move(own));
      swaps_.push_back(std::move(swap));
    }
  }

  ~PrivateEdges() {
    // In reverse: a tensor that is listed twice ends with what it had first.
    for (auto swap = swaps_.rbegin(); swap != swaps_.rend(); ++swap) point(*swap, swap->original);
  }

  PrivateEdges(const PrivateEdges&) = delete;
  PrivateEdges& operator=(const PrivateEdges&) = delete;

  /// One for each tensor; invalid where it requires no gradient.
  const autograd::edge_list& edges() const { return edges_; }

 private:
  struct Swap {
    Tensor tensor;
    autograd::Edge original;  // also keeps the original node alive
  };

  static void point(const Swap& swap, const autograd::Edge& edge) {
    if (swap.tensor.is_leaf()) {
      autograd::impl::set_grad_accumulator(swap.tensor, edge.function);
    } else {
      autograd::impl::set_gradient_edge(swap.tensor, edge);
    }
  }

  autograd::edge_list edges_;
  std::vector<Swap> swaps_;
};

// Throws where the graph reaches a leaf other than those that `edges` lead to.
void check_listed(const std::string& reader, const Tensor& output,
                  const autograd::edge_list& edges) {
  std::unordered_set<const autograd::Node*> seen;
  for (const autograd::Edge& edge : edges) seen.insert(edge.function.get());
  std::vector<const autograd::Node*> open;
  const auto visit = [&](const autograd::Edge& edge) {
    if (edge.is_valid() && seen.insert(edge.function.get()).second) {
      open.push_back(edge.function.get());
    }
  };
  if (output.requires_grad()) visit(autograd::impl::gradient_edge(output));
  while (!open.empty()) {
    const autograd::Node* node = open.back();
    open.pop_back();
    if (const auto* leaf = dynamic_cast<const autograd::AccumulateGrad*>(node)) {
      TORCH_CHECK(
          false, reader, " reads a tensor of shape ", leaf->variable.sizes(),
          " that requires a gradient and is not among its parameters: list it, or detach it");
    }
    for (const autograd::Edge& edge : node->next_edges()) visit(edge);
  }
}

struct Graph {
  std::vector<Tensor> inputs;  // leaves
  autograd::edge_list edges;   // of the inputs, then of the parameters; invalid: no gradient wanted
  Tensor output;
};

std::vector<Tensor> pull(Graph& graph, const Tensor& grad, bool retain) {
  std::vector<Tensor> gradients(graph.edges.size());
  if (!graph.output.requires_grad() || !grad.defined()) return gradients;
  autograd::edge_list wanted;
  std::vector<size_t> places;
  for (size_t i = 0; i < graph.edges.size(); ++i) {
    if (!graph.edges[i].is_valid()) continue;
    wanted.push_back(graph.edges[i]);
    places.push_back(i);
  }
  autograd::variable_list found = autograd::Engine::get_default_engine().execute(
      {autograd::impl::gradient_edge(graph.output)}, {grad.to(graph.output.scalar_type())}, retain,
      /*create_graph=*/false, /*accumulate_grad=*/false, wanted);
  for (size_t i = 0; i < places.size(); ++i) gradients[places[i]] = std::move(found[i]);
  if (!retain) graph = {};
  return gradients;
}

}  // namespace

Linearised linearise(const std::function<Tensor(at::TensorList)>& fn, at::TensorList inputs,
                     const std::vector<Tensor>& parameters) {
  return linearise("a field", fn, inputs, parameters);
}

Linearised linearise(const std::string& reader, const std::function<Tensor(at::TensorList)>& fn,
                     at::TensorList inputs, const std::vector<Tensor>& parameters) {
  const at::AutoGradMode with_graph(true);
  auto graph = std::make_shared<Graph>();
  for (const Tensor& x : inputs) {
    const bool differentiable = at::isFloatingType(x.scalar_type());
    graph->inputs.push_back(x.detach().set_requires_grad(differentiable));
    graph->edges.push_back(differentiable ? autograd::impl::gradient_edge(graph->inputs.back())
                                          : autograd::Edge());
  }
  {
    const PrivateEdges own(parameters);
    graph->output = fn(graph->inputs);
    graph->edges.insert(graph->edges.end(), own.edges().begin(), own.edges().end());
    check_listed(reader, graph->output, graph->edges);
  }
  return {graph->output.detach(),
          [graph](const Tensor& grad, bool retain) { return pull(*graph, grad, retain); }};
}

void check_reads_nothing_else(const std::string& reader, const Tensor& output) {
  check_listed(reader, output, {});
}

std::vector<Tensor> defined_of(std::vector<Tensor> parameters) {
  const auto is_undefined = [](const Tensor& p) { return !p.defined(); };
  parameters.erase(std::remove_if(parameters.begin(), parameters.end(), is_undefined),
                   parameters.end());
  return parameters;
}

}  // namespace rev::engine
