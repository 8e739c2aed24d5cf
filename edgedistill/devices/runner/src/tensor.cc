#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>

#include "error.h"
#include "model.h"

namespace edgedistill {
namespace {

uint16_t half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t sign = bits >> 16 & 0x8000, mantissa = bits & 0x7FFFFF;
  int exponent = static_cast<int>(bits >> 23 & 0xFF) - 112;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  if (exponent >= 31) return static_cast<uint16_t>(sign | 0x7C00);
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(exponent) << 10 | mantissa >> 13);
}

template <typename T, typename Draw>
void fill(Tensor& tensor, size_t count, Draw draw) {
  for (size_t i = 0; i < count; ++i) {
    T value = static_cast<T>(draw());
    std::memcpy(tensor.bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
}

[[noreturn]] void unreadable(const std::string& path, const std::string& why) {
  throw SessionError("inputs", path + " cannot be read as an array: " + why, "give values that match the model's inputs");
}

// The text between `before` and `after` in a .npy header.
std::string between(const std::string& text, const std::string& before, char after) {
  size_t begin = text.find(before);
  if (begin == std::string::npos) return "";
  begin += before.size();
  return text.substr(begin, text.find(after, begin) - begin);
}

std::string named(const std::string& descr) {
  static const std::map<std::string, std::string> kNames{
      {"|u1", "uint8"},  {"|i1", "int8"},    {"|b1", "bool"},    {"<u2", "uint16"},  {"<i2", "int16"},  {"<u4", "uint32"},
      {"<i4", "int32"},  {"<u8", "uint64"},  {"<i8", "int64"},   {"<f2", "float16"}, {"<f4", "float32"}, {"<f8", "float64"}};
  auto found = kNames.find(descr);
  return found == kNames.end() ? "" : found->second;
}

}  // namespace

size_t element_size(const std::string& dtype) {
  static const std::map<std::string, size_t> kSizes{{"bool", 1},    {"uint8", 1},   {"int8", 1},   {"uint16", 2},
                                                    {"int16", 2},   {"float16", 2}, {"uint32", 4}, {"int32", 4},
                                                    {"float32", 4}, {"uint64", 8},  {"int64", 8},  {"float64", 8}};
  auto found = kSizes.find(dtype);
  return found == kSizes.end() ? 0 : found->second;
}

void overwrite(Tensor& tensor, const std::vector<char>& bytes) {
  if (tensor.dtype != "uint8" || tensor.bytes.size() != bytes.size()) {
    throw SessionError("inputs", "the model does not take a prepared picture: " + std::to_string(bytes.size()) +
                                     " bytes of uint8, but " + std::to_string(tensor.bytes.size()) + " of " + tensor.dtype);
  }
  std::copy(bytes.begin(), bytes.end(), tensor.bytes.begin());
}

Tensor random_tensor(const std::string& dtype, const std::vector<int64_t>& shape) {
  size_t size = element_size(dtype), count = 1;
  if (!size) throw SessionError("inputs", "no values can be made for an input of type " + dtype);
  for (int64_t side : shape) count *= static_cast<size_t>(side);
  Tensor tensor{dtype, shape, std::vector<char>(count * size)};
  std::mt19937 generator(0);
  std::normal_distribution<float> normal;
  auto whole = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); };
  if (dtype == "float32") {
    fill<float>(tensor, count, [&] { return normal(generator); });
  } else if (dtype == "float64") {
    fill<double>(tensor, count, [&] { return normal(generator); });
  } else if (dtype == "float16") {
    fill<uint16_t>(tensor, count, [&] { return half(normal(generator)); });
  } else if (dtype == "uint8") {
    fill<uint8_t>(tensor, count, [&] { return whole(0, 255); });
  } else if (dtype == "int8") {
    fill<int8_t>(tensor, count, [&] { return whole(-128, 127); });
  } else if (size == 8) {
    fill<int64_t>(tensor, count, [&] { return whole(0, 1); });
  } else if (size == 4) {
    fill<int32_t>(tensor, count, [&] { return whole(0, 1); });
  } else if (size == 2) {
    fill<int16_t>(tensor, count, [&] { return whole(0, 1); });
  } else {
    fill<int8_t>(tensor, count, [&] { return whole(0, 1); });
  }
  return tensor;
}

std::vector<Tensor> read_npy(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  char magic[8];
  if (!stream.read(magic, 8) || std::memcmp(magic, "\x93NUMPY", 6) != 0) unreadable(path, "it is no .npy file");
  unsigned char sizes[4] = {};
  stream.read(reinterpret_cast<char*>(sizes), magic[6] == 1 ? 2 : 4);
  size_t length = sizes[0] | static_cast<size_t>(sizes[1]) << 8 | static_cast<size_t>(sizes[2]) << 16 |
                  static_cast<size_t>(sizes[3]) << 24;
  if (length > 1 << 20) unreadable(path, "its header is too long");
  std::string header(length, ' ');
  if (!stream.read(header.data(), static_cast<std::streamsize>(length))) unreadable(path, "it ends early");
  std::string dtype = named(between(header, "'descr': '", '\''));
  if (dtype.empty() || header.find("'fortran_order': False") == std::string::npos) unreadable(path, "an unknown layout");
  std::vector<int64_t> shape;
  std::stringstream sides(between(header, "'shape': (", ')'));
  for (std::string side; std::getline(sides, side, ',');) {
    long long value = 0;
    if (std::sscanf(side.c_str(), "%lld", &value) == 1) shape.push_back(value);
  }
  if (shape.empty() || shape[0] == 0) {
    throw SessionError("inputs", path + " holds no inputs", "give values that match the model's inputs");
  }
  size_t bytes = element_size(dtype);
  for (size_t i = 1; i < shape.size(); ++i) bytes *= static_cast<size_t>(shape[i]);
  std::vector<Tensor> rows;
  for (int64_t row = 0; row < shape[0]; ++row) {
    Tensor tensor{dtype, shape, std::vector<char>(bytes)};
    tensor.shape[0] = 1;
    if (!stream.read(tensor.bytes.data(), static_cast<std::streamsize>(bytes))) unreadable(path, "it ends early");
    rows.push_back(std::move(tensor));
  }
  return rows;
}

}  // namespace edgedistill
