// Warnings: what is legal but seldom meant. The library prints nothing: they go to the handler that the program sets,
// and nowhere without one.
//
//   set_warning_handler([](std::string_view text) { std::cerr << "warning: " << text << '\n'; });
#pragma once

#include <functional>
#include <string_view>

namespace xent {

using WarningHandler = std::function<void(std::string_view text)>;

// Sets the handler of the whole process, and returns the one before. It is called on the thread that called the
// library, perhaps on several at once; an exception from it reaches that caller.
WarningHandler set_warning_handler(WarningHandler handler);

// Hands a warning to the handler, if there is one.
void warn(std::string_view text);

}  // namespace xent
