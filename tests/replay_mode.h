// Mode: sets how Steps run for the length of a test, whatever XENT_REPLAY says.
#pragma once

#include <xent/core/step.h>

struct Mode {
  explicit Mode(xent::Replay mode) { xent::set_replay(mode); }
  ~Mode() { xent::set_replay(before); }
  Mode(const Mode&) = delete;
  Mode& operator=(const Mode&) = delete;

  xent::Replay before = xent::replay();
};
