// The error types of the core and text(), which joins values into a message.
//
// Each type has a Python twin of the same name in cabochon.errors; bindings/convert.cc translates.
// A message says: where, what was found, what was expected, why or what to do next.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace cabochon {

// Joins values by operator<<: text("tensor '", name, "' is ", shape).
template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct InvalidArgument : Error {
  using Error::Error;
};

// A checkpoint is damaged or not what its plan says; file and tensor may be empty.
struct CheckpointError : Error {
  explicit CheckpointError(const std::string& message, std::string file_name = {},
                           std::string tensor_name = {})
      : Error(message), file(std::move(file_name)), tensor(std::move(tensor_name)) {}
  std::string file, tensor;
};

struct OutOfMemory : Error {
  using Error::Error;
};

struct Unsupported : Error {
  using Error::Error;
};

struct DeviceError : Error {
  using Error::Error;
};

// Somebody asked the step to stop; nothing that it did can be seen by a later step.
struct Interrupted : Error {
  Interrupted() : Error("interrupted") {}
};

}  // namespace cabochon
