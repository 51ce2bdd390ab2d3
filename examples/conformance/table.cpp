#include "table.h"

#include <algorithm>

namespace conformance {

std::vector<std::string> wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines;
  size_t begin = 0;
  while (text.size() - begin > width) {
    const size_t space = text.rfind(' ', begin + width);
    const bool between = space != std::string::npos && space > begin;
    const size_t end = between ? space : begin + width;
    lines.push_back(text.substr(begin, end - begin));
    begin = between ? space + 1 : end;
  }
  lines.push_back(text.substr(begin));
  return lines;
}

namespace {

// With two spaces between them, 119 characters.
constexpr std::array<size_t, columns> widths = {27, 37, 39, 10};

std::string printed(const Line& line) {
  std::array<std::vector<std::string>, columns> cells;
  size_t height = 0;
  for (size_t i = 0; i < columns; ++i) {
    cells[i] = wrap(line[i], widths[i]);
    height = std::max(height, cells[i].size());
  }
  std::string text;
  for (size_t row = 0; row < height; ++row) {
    std::string printed_row;
    for (size_t i = 0; i < columns; ++i) {
      std::string cell = row < cells[i].size() ? cells[i][row] : "";
      cell.resize(widths[i] + 2, ' ');
      printed_row += cell;
    }
    printed_row.resize(printed_row.find_last_not_of(' ') + 1);
    text += printed_row + '\n';
  }
  return text;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '*' || c == '[' || c == ']' || c == '_') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

}  // namespace

std::string terminal_table(const Line& head, const std::vector<Line>& lines) {
  std::string text = printed(head);
  for (const size_t width : widths) text += std::string(width, '-') + "  ";
  text.resize(text.size() - 2);
  text += '\n';
  for (const Line& line : lines) text += printed(line);
  return text;
}

std::string markdown_table(const Line& head, const std::vector<Line>& lines) {
  std::string text;
  const auto append = [&](const Line& line) {
    text += '|';
    for (const std::string& cell : line) text += ' ' + escaped(cell) + " |";
    text += '\n';
  };
  append(head);
  text += "| --- | --- | --- | --- |\n";
  for (const Line& line : lines) append(line);
  return text;
}

}  // namespace conformance
