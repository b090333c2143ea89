#pragma once

#include <string>
#include <vector>

namespace rev::bench {

/// Rows of text under named columns.
struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  /// Aligned columns for a person to read.
  std::string text() const;
  /// Tab separated, the column names first.
  std::string tsv() const;
};

/// One line of a picture: y over x.
struct Series {
  std::string name;
  std::vector<double> x, y;
};

/// A picture of lines with both axes logarithmic, as SVG.
std::string log_log_svg(const std::string& title, const std::string& x_label,
                        const std::string& y_label, const std::vector<Series>& lines);

/// Median, least and largest of a sample, which must not be empty.
struct Spread {
  double median, least, largest;
};
Spread spread(std::vector<double> sample);

}  // namespace rev::bench
