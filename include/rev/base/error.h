#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace rev::base {

/// A layer's input could not be rebuilt bit for bit from its output.
///
/// Thrown in backward before the node returns any gradient (a sink has by then been given those of
/// the layers above). A program that goes on stores that layer's state (`Stack::set_memory(layer,
/// Memory::Checkpoint)`) and repeats the step.
class NotInvertible : public std::runtime_error {
 public:
  NotInvertible(int64_t layer, int64_t rows, double contraction, const std::string& what)
      : std::runtime_error(what), layer_(layer), rows_(rows), contraction_(contraction) {}

  int64_t layer() const { return layer_; }  ///< counted from 0
  int64_t rows() const { return rows_; }    ///< tokens that could not be rebuilt
  double contraction() const {
    return contraction_;
  }  ///< largest seen in a fixed point; 0: none ran

 private:
  int64_t layer_;
  int64_t rows_;
  double contraction_;
};

}  // namespace rev::base
