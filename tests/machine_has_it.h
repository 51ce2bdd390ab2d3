// machine_has_it: whether this machine has the instruction set that XENT_CPU asks for. Says so in the log if not.
#pragma once

#include <doctest/doctest.h>

#include <xent/core/error.h>
#include <xent/ops/cpu/instruction_set.h>

inline bool machine_has_it() {
  try {
    xent::cpu::instruction_set();
    return true;
  } catch (const xent::ArgumentError& error) {
    MESSAGE("skipped: ", error.what());
    return false;
  }
}
