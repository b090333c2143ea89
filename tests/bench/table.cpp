#include "bench/table.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rev::bench {

std::string Table::text() const {
  std::vector<size_t> width;
  for (const std::string& c : columns) width.push_back(c.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) out += fmt::format("{:>{}}  ", cells[i], width[i]);
    out += '\n';
  };
  line(columns);
  for (const auto& row : rows) line(row);
  return out;
}

std::string Table::tsv() const {
  std::string out = fmt::format("{}\n", fmt::join(columns, "\t"));
  for (const auto& row : rows) out += fmt::format("{}\n", fmt::join(row, "\t"));
  return out;
}

namespace {

// Numbers as places in a picture whose axes are logarithmic.
class Axes {
 public:
  static constexpr double kWidth = 640, kHeight = 420;

  explicit Axes(const std::vector<Series>& lines) {
    for (const Series& s : lines) {
      for (size_t i = 0; i < s.x.size(); ++i) {
        x0_ = std::min(x0_, std::log2(s.x[i]));
        x1_ = std::max(x1_, std::log2(s.x[i]));
        y0_ = std::min(y0_, std::log2(s.y[i]));
        y1_ = std::max(y1_, std::log2(s.y[i]));
      }
    }
    y0_ = std::floor(y0_);
    y1_ = std::ceil(y1_);
    x1_ = std::max(x1_, x0_ + 1);
  }

  double x(double value) const {
    return left() + (std::log2(value) - x0_) / (x1_ - x0_) * (right() - left());
  }
  double y(double value) const {
    return bottom() - (std::log2(value) - y0_) / (y1_ - y0_) * (bottom() - top());
  }
  /// Powers of two that bound the values of y.
  double lowest() const { return y0_; }
  double highest() const { return y1_; }

  static constexpr double left() { return 80; }
  static constexpr double right() { return kWidth - 150; }
  static constexpr double top() { return 40; }
  static constexpr double bottom() { return kHeight - 60; }

 private:
  double x0_ = INFINITY, x1_ = -INFINITY, y0_ = INFINITY, y1_ = -INFINITY;
};

std::string svg_text(double x, double y, const char* anchor, const std::string& what) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     what);
}

// A line at each power of two of y, and the numbers beside both axes.
std::string svg_grid(const Axes& axes, const std::vector<Series>& lines) {
  std::string out;
  for (double e = axes.lowest(); e <= axes.highest(); ++e) {
    const double y = axes.y(std::exp2(e));
    out += fmt::format("<path d=\"M{} {:.1f}H{}\" stroke=\"#ddd\"/>\n", Axes::left(), y,
                       Axes::right());
    out += svg_text(Axes::left() - 8, y + 4, "end", fmt::format("{:g}", std::exp2(e)));
  }
  for (const double x : lines.empty() ? std::vector<double>() : lines[0].x) {
    out += svg_text(axes.x(x), Axes::bottom() + 18, "middle", fmt::format("{:g}", x));
  }
  return out;
}

std::string svg_line(const Axes& axes, const Series& s, const char* color) {
  std::string out, points;
  for (size_t i = 0; i < s.x.size(); ++i) {
    const double x = axes.x(s.x[i]), y = axes.y(s.y[i]);
    points += fmt::format("{:.1f},{:.1f} ", x, y);
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x, y, color);
  }
  out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n",
                     points, color);
  if (s.x.empty()) return out;
  return out + fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{}</text>\n",
                           axes.x(s.x.back()) + 8, axes.y(s.y.back()) + 4, color, s.name);
}

}  // namespace

std::string log_log_svg(const std::string& title, const std::string& x_label,
                        const std::string& y_label, const std::vector<Series>& lines) {
  constexpr const char* kColors[] = {"#c0392b", "#e67e22", "#2471a3", "#1e8449", "#7d3c98"};
  const Axes axes(lines);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"24\" font-size=\"15\">{3}</text>\n",
      Axes::kWidth, Axes::kHeight, Axes::left(), title);
  out += svg_grid(axes, lines);
  out += svg_text((Axes::left() + Axes::right()) / 2, Axes::kHeight - 18, "middle", x_label);
  out += fmt::format(
      "<text transform=\"translate(20 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      (Axes::top() + Axes::bottom()) / 2, y_label);
  for (size_t k = 0; k < lines.size(); ++k) {
    out += svg_line(axes, lines[k], kColors[k % std::size(kColors)]);
  }
  return out + "</svg>\n";
}

Spread spread(std::vector<double> sample) {
  std::sort(sample.begin(), sample.end());
  const size_t n = sample.size();
  return {(sample[(n - 1) / 2] + sample[n / 2]) / 2, sample.front(), sample.back()};
}

}  // namespace rev::bench
