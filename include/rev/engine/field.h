// A field is a layer function f_l: tensor in, tensor of the same shape out, without the skip
// connection (a scheme adds it). Any LibTorch code can be one; the shipped transformer fields
// differ in what they leave out where their value is not needed, and in their map on single tokens.
#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace rev::engine {

/// A field evaluated at one point: its value, and the map from a gradient of the value to gradients
/// of the inputs and parameters there (the transposed Jacobian).
struct Linearised {
  /// f(x), detached: it carries no graph.
  at::Tensor value;

  /// grad_value -> {one gradient for each input, then one for each of `Field::parameters()`}.
  ///
  /// A gradient is undefined where its tensor did not take part or does not require one. With
  /// `retain` false the map may be called once and frees what it holds.
  std::function<std::vector<at::Tensor>(const at::Tensor& grad_value, bool retain)> pullback;
};

/// Evaluates fn with a graph of its own and returns its value and pullback; what a field of one's
/// own calls to differentiate something else than its `forward`.
///
/// fn sees detached inputs. While it runs, the gradient edges of `parameters` lead into this graph
/// and not to the tensors' own accumulators, so that gradients are delivered here alone: neither
/// `.grad` nor hooks of a parameter are touched until the caller returns them to autograd, once.
/// Two threads must therefore not linearise over the same parameters at the same time.
Linearised linearise(const std::function<at::Tensor(at::TensorList)>& fn, at::TensorList inputs,
                     const std::vector<at::Tensor>& parameters);

/// For one fixed second input: rows x [N,C] of the first input and their places index [N] (int64,
/// in the flattened [B*T]) -> rows of the field's value, [N,C].
using TokenMap = std::function<at::Tensor(const at::Tensor& x, const at::Tensor& index)>;

/// A layer function with parameters.
///
/// Fields must be functions of their inputs, parameters, the default generators and the autocast
/// state only: evaluated twice on the same of these they must return the same bits. The engine
/// checks that when it inverts. The parameters may change only between a backward and the next
/// forward.
class Field {
 public:
  virtual ~Field() = default;

  /// f(x), or f(x1, x2) for a cross field; all of one shape [B,T,C] (or any other shape). It must
  /// not change x in place: with float states x is the state itself.
  virtual at::Tensor forward(at::TensorList x) = 0;

  /// The tensors, besides the inputs, that gradients are wanted for: all that the field reads and
  /// that require one, or differentiating throws c10::Error. Frozen ones may be among them, but
  /// none that is undefined.
  virtual std::vector<at::Tensor> parameters() const = 0;

  /// Tensors that an evaluation updates and that its value does not depend on, such as running
  /// statistics. What backward's evaluation writes into them is undone, so that they move once a
  /// step.
  virtual std::vector<at::Tensor> buffers() const { return {}; }

  /// Evaluates the field with a graph. The default is `engine::linearise` of `forward`.
  ///
  /// x: the inputs; they are not changed and no graph of theirs is entered.
  /// need_value: where false the caller does not read `value`, so that the field may leave out the
  /// operators that only the value needs; its shape and dtype must be right all the same.
  virtual Linearised linearise(at::TensorList x, bool need_value = true);

  /// The map on single tokens that RevFFN's fixed point iterates, where x2 is fixed so that what
  /// depends on it alone (keys, values) is computed once. The default evaluates `forward` on whole
  /// sequences and is right for any two-input field.
  ///
  /// x1_like gives shape and dtype of the first input; rows that are not asked for stay as they
  /// were when last asked for.
  virtual TokenMap token_map(const at::Tensor& x1_like, const at::Tensor& x2);
};

using FieldPtr = std::shared_ptr<Field>;

/// A field from any callable of one tensor, or of two, and the parameters that it reads (undefined
/// ones, such as the bias of a linear map that has none, are passed over).
FieldPtr field(std::function<at::Tensor(const at::Tensor&)> fn, std::vector<at::Tensor> parameters);
FieldPtr cross_field(std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> fn,
                     std::vector<at::Tensor> parameters);

/// A field from a `torch::nn` module (a holder, or a `std::shared_ptr` to its implementation) with
/// `Tensor forward(Tensor)`. The module is kept alive; its parameters are read at each use, so that
/// `to()` and freezing work as ever.
template <class Module, class = decltype(std::declval<Module>()->parameters())>
FieldPtr field(Module module);

/// A field from a block that has its skip connection inside: f(x) = block(x) - x.
template <class Module, class = decltype(std::declval<Module>()->parameters())>
FieldPtr without_skip(Module module);

namespace detail {

FieldPtr field(std::function<at::Tensor(at::TensorList)> fn,
               std::function<std::vector<at::Tensor>()> parameters,
               std::function<std::vector<at::Tensor>()> buffers);

}  // namespace detail

template <class Module, class>
FieldPtr field(Module module) {
  return detail::field([module](at::TensorList x) mutable { return module->forward(x[0]); },
                       [module] { return module->parameters(); },
                       [module] { return module->buffers(); });
}

template <class Module, class>
FieldPtr without_skip(Module module) {
  return detail::field([module](at::TensorList x) mutable { return module->forward(x[0]) - x[0]; },
                       [module] { return module->parameters(); },
                       [module] { return module->buffers(); });
}

}  // namespace rev::engine
