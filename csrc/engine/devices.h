// From a device's name to its Ops: the only file that names devices.
#pragma once

#include <memory>
#include <string>

#include "ops/ops.h"

namespace cabochon {

// "cpu" with this many threads. Throws Unsupported for another device.
std::unique_ptr<Ops> make_ops(const std::string& device, int threads);

}  // namespace cabochon
