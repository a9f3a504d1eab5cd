#include "engine/devices.h"

#include "cpu/cpu_ops.h"
#include "cpu/select.h"

namespace cabochon {

std::unique_ptr<Ops> make_ops(const std::string& device, int threads, bool is_fast) {
  if (device != "cpu") {
    throw Unsupported(text("device '", device, "' is not in this build; it has 'cpu'"));
  }
  if (threads < 1 || threads > 1024) {
    throw InvalidArgument(text("threads is ", threads, ", expected 1 to 1024"));
  }
  return std::make_unique<cpu::CpuOps>(cpu::chosen_kernels(is_fast), threads);
}

}  // namespace cabochon
