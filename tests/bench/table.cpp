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

std::string log_log_svg(const std::string& title, const std::string& x_label,
                        const std::string& y_label, const std::vector<Series>& lines) {
  constexpr double kWidth = 640, kHeight = 420, kLeft = 80, kRight = 150, kTop = 40, kBottom = 60;
  constexpr const char* kColors[] = {"#c0392b", "#e67e22", "#2471a3", "#1e8449", "#7d3c98"};
  double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
  for (const Series& s : lines) {
    for (size_t i = 0; i < s.x.size(); ++i) {
      x0 = std::min(x0, std::log2(s.x[i]));
      x1 = std::max(x1, std::log2(s.x[i]));
      y0 = std::min(y0, std::log2(s.y[i]));
      y1 = std::max(y1, std::log2(s.y[i]));
    }
  }
  y0 = std::floor(y0);
  y1 = std::ceil(y1);
  x1 = std::max(x1, x0 + 1);
  const auto px = [&](double x) {
    return kLeft + (std::log2(x) - x0) / (x1 - x0) * (kWidth - kLeft - kRight);
  };
  const auto py = [&](double y) {
    return kHeight - kBottom - (std::log2(y) - y0) / (y1 - y0) * (kHeight - kTop - kBottom);
  };
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"24\" font-size=\"15\">{3}</text>\n",
      kWidth, kHeight, kLeft, title);
  const auto text = [&](double x, double y, const char* anchor, const std::string& what) {
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y,
                       anchor, what);
  };
  for (double e = y0; e <= y1; ++e) {
    const double y = py(std::exp2(e));
    out += fmt::format("<path d=\"M{} {:.1f}H{}\" stroke=\"#ddd\"/>\n", kLeft, y, kWidth - kRight);
    text(kLeft - 8, y + 4, "end", fmt::format("{:g}", std::exp2(e)));
  }
  for (const double x : lines.empty() ? std::vector<double>() : lines[0].x) {
    text(px(x), kHeight - kBottom + 18, "middle", fmt::format("{:g}", x));
  }
  text((kLeft + kWidth - kRight) / 2, kHeight - 18, "middle", x_label);
  out += fmt::format(
      "<text transform=\"translate(20 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      (kTop + kHeight - kBottom) / 2, y_label);
  for (size_t k = 0; k < lines.size(); ++k) {
    const Series& s = lines[k];
    const char* color = kColors[k % std::size(kColors)];
    std::string points;
    for (size_t i = 0; i < s.x.size(); ++i) {
      points += fmt::format("{:.1f},{:.1f} ", px(s.x[i]), py(s.y[i]));
      out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", px(s.x[i]),
                         py(s.y[i]), color);
    }
    out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n",
                       points, color);
    if (!s.x.empty()) {
      out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{}</text>\n",
                         px(s.x.back()) + 8, py(s.y.back()) + 4, color, s.name);
    }
  }
  return out + "</svg>\n";
}

Spread spread(std::vector<double> sample) {
  std::sort(sample.begin(), sample.end());
  const size_t n = sample.size();
  return {(sample[(n - 1) / 2] + sample[n / 2]) / 2, sample.front(), sample.back()};
}

}  // namespace rev::bench
