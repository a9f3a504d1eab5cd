// Which tiers this CPU has, and the table of inner loops for one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cpu/kernels.h"

namespace cabochon::cpu {

// Slowest first: the tiers this build has and this CPU can run. Never empty ("scalar"). All of them
// give the same bits; kernels_for also knows "avx512bf16", which adds another arithmetic to the
// last.
std::vector<std::string> usable_tiers();

// Whether "avx512bf16" is there.
bool has_fast_arithmetic();

// The table for a tier by name. Throws InvalidArgument for a name nobody knows and Unsupported for
// one that this CPU or build lacks, with the features that are missing.
Kernels kernels_for(std::string_view tier);

// CABOCHON_CPU_TIER if it is set and not empty, else the last of usable_tiers(). is_fast: with
// matmul_bf16_pairs; throws Unsupported where this CPU or the forced tier lacks it.
Kernels chosen_kernels(bool is_fast = false);

}  // namespace cabochon::cpu
