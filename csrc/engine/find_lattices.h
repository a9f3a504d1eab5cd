// Which matrices of a bf16 checkpoint were trained in int4: by their numbers, not by their name.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "model/tensors.h"
#include "weights/checkpoint.h"

namespace cabochon {

// Names of the bf16 tensors of these classes whose blocks are on a lattice of int4, as far as a
// sample of them says: 64 blocks in each of four places of a tensor, all of which must be on one,
// and one at least must have 16 values that are not zero. A tensor of other numbers is told by its
// first block (docs/formats.md, "QAT files"). Reads up to 16 KiB a tensor. Throws CheckpointError.
std::vector<std::string> find_lattices(const Checkpoint& checkpoint, const ModelPlan& plan,
                                       const std::set<TensorClass>& classes);

}  // namespace cabochon
