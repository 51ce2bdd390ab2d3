// The text of the error E that a call ends in, or "no error".
//
//   CHECK(error_of<ShapeError>([&] { softmax(x, 7); }) == "softmax: axis 7 ...");
#pragma once

#include <string>

template <class E, class F>
std::string error_of(const F& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}
