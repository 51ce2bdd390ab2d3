// Running golden cases, one after the other, on a device, and saying which of them fail.
#pragma once

#include <iosfwd>

#include "golden_case.h"

namespace golden {

struct Tally {
  int64_t passed = 0, failed = 0;
};

// Returns what is wrong with a case, or nothing.
std::optional<std::string> failure(const json& entry, xent::Device device = {});

// Runs the cases of a file, named as given, and prints a line for each that fails.
Tally run(const json& file, const std::string& name, std::ostream& out, xent::Device device = {});

// Reads a file and runs it. One that cannot be read, or holds no cases, is a failure.
Tally run_file(const std::string& path, std::ostream& out, xent::Device device = {});

}  // namespace golden
