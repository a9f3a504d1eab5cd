// The default floating-point mode for a scope.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cabochon {

// Sets round to nearest with denormals kept while it lives, then restores what was there: a library
// built with -ffast-math sets flush-to-zero for the thread that loads it, and new threads inherit.
class DefaultFloatMode {
 public:
#if defined(__x86_64__)
  DefaultFloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~DefaultFloatMode() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#else
  DefaultFloatMode() {}
  ~DefaultFloatMode() {}
#endif

 public:
  DefaultFloatMode(const DefaultFloatMode&) = delete;
  DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;
};

}  // namespace cabochon
