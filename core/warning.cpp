#include <xent/core/warning.h>

#include <mutex>
#include <utility>

namespace xent {

namespace {

struct Handler {
  std::mutex mutex;
  WarningHandler function;
};

Handler& handler() {
  static Handler handler;
  return handler;
}

}  // namespace

WarningHandler set_warning_handler(WarningHandler next) {
  const std::lock_guard lock(handler().mutex);
  return std::exchange(handler().function, std::move(next));
}

void warn(std::string_view text) {
  WarningHandler function;  // a copy, called without the lock: it may set another handler
  {
    const std::lock_guard lock(handler().mutex);
    function = handler().function;
  }
  if (function) function(text);
}

}  // namespace xent
