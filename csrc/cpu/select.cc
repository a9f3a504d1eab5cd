#include "cpu/select.h"

#include <cstdlib>

#include "base/error.h"

namespace cabochon::cpu {
namespace {

constexpr const char* kFast = "avx512bf16";

struct Feature {
  const char* name;
  bool present;  // in this CPU, and its registers are saved by this system
};

struct Tier {
  const char* name;
  void (*install)(Kernels&) noexcept;
  std::vector<Feature> features;  // exactly the compile flags of its folder (a test compares them)
  bool is_exact = true;           // gives the bits of scalar; the others are only asked for by name
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
  tiers.push_back({"avx512bf16",
                   install_avx512bf16,
                   {
                       {"avx2", __builtin_cpu_supports("avx2") != 0},
                       {"fma", __builtin_cpu_supports("fma") != 0},
                       {"bmi2", __builtin_cpu_supports("bmi2") != 0},
                       {"avx512f", __builtin_cpu_supports("avx512f") != 0},
                       {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
                       {"avx512dq", __builtin_cpu_supports("avx512dq") != 0},
                       {"avx512vl", __builtin_cpu_supports("avx512vl") != 0},
                       {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0},
                       {"avx512bf16", __builtin_cpu_supports("avx512bf16") != 0},
                   },
                   false});
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
  if (name == "avx2" || name == "avx512" || name == kFast) {
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
    if (tier.is_exact && missing_features(tier).empty()) names.push_back(tier.name);
  }
  return names;
}

bool has_fast_arithmetic() {
  const std::vector<Tier> tiers = built_tiers();
  return !tiers.back().is_exact && missing_features(tiers.back()).empty();
}

Kernels kernels_for(std::string_view tier) { return kernels_for(tier, "kernels_for"); }

Kernels chosen_kernels(bool is_fast) {
  const char* forced = std::getenv("CABOCHON_CPU_TIER");
  const bool is_forced = forced != nullptr && *forced != '\0';
  const std::vector<std::string> usable = usable_tiers();
  if (is_forced && std::string_view(forced) == kFast) {
    throw InvalidArgument(text("CABOCHON_CPU_TIER: '", kFast, "' gives other bits and is no tier; ",
                               "expected ", listed(usable), "; load with arithmetic='fast'"));
  }
  const Kernels kernels =
      is_forced ? kernels_for(forced, "CABOCHON_CPU_TIER") : kernels_for(usable.back());
  if (!is_fast) return kernels;
  constexpr const char* kWhere = "load: arithmetic='fast'";
  const Kernels fast = kernels_for(kFast, kWhere);
  if (std::string_view(kernels.tier) != fast.tier) {
    throw Unsupported(text(kWhere, ": CABOCHON_CPU_TIER is '", forced, "', expected '", fast.tier,
                           "' or none; 'exact' computes on every tier"));
  }
  return fast;
}

}  // namespace cabochon::cpu
