// A table of text, for a terminal of 120 columns or as Markdown.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace conformance {

inline constexpr size_t columns = 4;
using Line = std::array<std::string, columns>;

// Breaks text into lines of at most width characters, between words where it can.
std::vector<std::string> wrap(const std::string& text, size_t width);

std::string terminal_table(const Line& head, const std::vector<Line>& lines);
std::string markdown_table(const Line& head, const std::vector<Line>& lines);

}  // namespace conformance
