#include "bindings/core_call.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "base/error.h"

namespace cabochon {
namespace {

std::atomic<bool> exiting{false};
std::atomic<int> inside{0};

}  // namespace

CoreCall::CoreCall() {
  if (exiting) throw InvalidArgument("the interpreter is exiting: nothing is computed any more");
  ++inside;
  state_ = PyEval_SaveThread();
}

CoreCall::~CoreCall() {
  // Between the wait in begin_exit and the end of the process: this thread may not come back.
  while (exiting && inside < 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  PyEval_RestoreThread(state_);
  --inside;
}

bool CoreCall::is_exiting() { return exiting; }

void CoreCall::begin_exit() {
  exiting = true;
  PyThreadState* state = PyEval_SaveThread();
  for (int i = 0; i < 200 && inside > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  PyEval_RestoreThread(state);
  // Whoever is still inside stays there: a count below zero says so.
  if (inside > 0) inside = -1000000;
}

}  // namespace cabochon
