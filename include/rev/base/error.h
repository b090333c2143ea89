#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace rev::base {

/// A layer's input could not be rebuilt bit for bit from its output.
///
/// Thrown in backward before the node returns any gradient (a sink has by then been given those of
/// the layers above). Where the cause is the fixed point, a program goes on by keeping that layer's
/// state (`Stack::set_memory(layer, Memory::Checkpoint)`) and repeating the step.
class NotInvertible : public std::runtime_error {
 public:
  enum class Cause {
    FixedPoint,  ///< an implicit step's iteration ended elsewhere: store the state and repeat
    Field,       ///< a field gave other bits than in forward: an error in the program
  };

  NotInvertible(Cause cause, int64_t layer, int64_t rows, double contraction,
                const std::string& what)
      : std::runtime_error(what),
        cause_(cause),
        layer_(layer),
        rows_(rows),
        contraction_(contraction) {}

  Cause cause() const { return cause_; }
  int64_t layer() const { return layer_; }  ///< counted from 0
  int64_t rows() const { return rows_; }    ///< tokens that could not be rebuilt
  double contraction() const {
    return contraction_;
  }  ///< largest seen in a fixed point; 0: none ran

 private:
  Cause cause_;
  int64_t layer_;
  int64_t rows_;
  double contraction_;
};

/// A state on the grid left its range, or a field's value was not a number, in forward. Fewer bits
/// below the point (`StateOptions::bits`) give a wider range.
class Saturated : public std::runtime_error {
 public:
  Saturated(int64_t layer, char stream, const std::string& what)
      : std::runtime_error(what), layer_(layer), stream_(stream) {}

  int64_t layer() const { return layer_; }  ///< the first after which it shows; -1: the input
  char stream() const { return stream_; }   ///< 'q' or 'p', as in schemes::State

 private:
  int64_t layer_;
  char stream_;
};

}  // namespace rev::base
