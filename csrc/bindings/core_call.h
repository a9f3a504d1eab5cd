// Entering the core from Python: without the GIL, and never past the end of the interpreter.
#pragma once

#include <pybind11/pybind11.h>

namespace cabochon {

// Releases the GIL while it lives. At interpreter exit, threads that are inside are asked to stop
// (is_exiting) and waited for; one that comes back too late sleeps for ever in the destructor,
// since taking the GIL then would end the process in std::terminate.
class CoreCall {
 public:
  CoreCall();  // throws InvalidArgument when the interpreter is exiting
  ~CoreCall();
  CoreCall(const CoreCall&) = delete;
  CoreCall& operator=(const CoreCall&) = delete;

  static bool is_exiting();
  // Asks everybody inside to leave and waits for up to two seconds; with the GIL held.
  static void begin_exit();

 private:
  PyThreadState* state_;
};

}  // namespace cabochon
