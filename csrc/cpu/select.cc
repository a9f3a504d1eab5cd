#include "cpu/select.h"

#include <cstdlib>

#include "base/error.h"

namespace cabochon::cpu {
namespace {

struct Feature {
  const char* name;
  bool present;  // in this CPU, and its registers are saved by this system
};

struct Tier {
  const char* name;
  void (*install)(Kernels&) noexcept;
  std::vector<Feature> features;  // exactly the compile flags of its folder (a test compares them)
};

// Slowest first. A tier is the one before it with some entries overridden.
std::vector<Tier> built_tiers() {
  std::vector<Tier> tiers = {{"scalar", install_scalar, {}}};
#if defined(CABOCHON_X86_TIERS)
  tiers.push_back({"avx2",
                   install_avx2,
                   {
                       {"avx2", __builtin_cpu_supports("avx2") != 0},
                       {"fma", __builtin_cpu_supports("fma") != 0},
                       {"bmi2", __builtin_cpu_supports("bmi2") != 0},
                   }});
  tiers.push_back({"avx512",
                   install_avx512,
                   {
                       {"avx2", __builtin_cpu_supports("avx2") != 0},
                       {"fma", __builtin_cpu_supports("fma") != 0},
                       {"bmi2", __builtin_cpu_supports("bmi2") != 0},
                       {"avx512f", __builtin_cpu_supports("avx512f") != 0},
                       {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
                       {"avx512dq", __builtin_cpu_supports("avx512dq") != 0},
                       {"avx512vl", __builtin_cpu_supports("avx512vl") != 0},
                       {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0},
                   }});
#endif
  return tiers;
}

std::string missing_features(const Tier& tier) {
  std::string missing;
  for (const Feature& feature : tier.features) {
    if (!feature.present) missing += (missing.empty() ? "" : ", ") + std::string(feature.name);
  }
  return missing;
}

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

// `where` says who asked for the tier.
Kernels kernels_for(std::string_view name, std::string_view where) {
  const std::string usable = listed(usable_tiers());
  Kernels kernels{};
  for (const Tier& tier : built_tiers()) {
    const std::string missing = missing_features(tier);
    if (missing.empty()) tier.install(kernels);
    if (name != tier.name) continue;
    if (missing.empty()) return kernels;
    throw Unsupported(text(where, ": this CPU or system has no ", missing, ", which tier '", name,
                           "' needs; usable here: ", usable));
  }
  if (name == "avx2" || name == "avx512") {
    throw Unsupported(text(where, ": tier '", name,
                           "' is for x86-64 and not in this build; usable here: ", usable));
  }
  throw InvalidArgument(text(where, ": no CPU tier is called '", name,
                             "'; expected scalar, avx2 or avx512; usable here: ", usable));
}

}  // namespace

std::vector<std::string> usable_tiers() {
  std::vector<std::string> names;
  for (const Tier& tier : built_tiers()) {
    if (missing_features(tier).empty()) names.push_back(tier.name);
  }
  return names;
}

Kernels kernels_for(std::string_view tier) { return kernels_for(tier, "kernels_for"); }

Kernels chosen_kernels() {
  const char* forced = std::getenv("CABOCHON_CPU_TIER");
  if (forced == nullptr || *forced == '\0') return kernels_for(usable_tiers().back());
  return kernels_for(forced, "CABOCHON_CPU_TIER");
}

}  // namespace cabochon::cpu
