// From a device's name to its Ops: the only file that names devices.
#pragma once

#include <memory>
#include <string>

#include "ops/ops.h"

namespace cabochon {

// "cpu" with this many threads. is_fast: bf16 matrices meet activations rounded to bf16
// (docs/numerics.md, "Arithmetic fast"). Throws Unsupported for another device, and where the CPU
// lacks the instruction of the fast arithmetic.
std::unique_ptr<Ops> make_ops(const std::string& device, int threads, bool is_fast = false);

}  // namespace cabochon
