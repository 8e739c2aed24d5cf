// JSON values: as much as the server and the agent say.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace edgedistill {

class Json {
 public:
  enum class Kind { kNull, kBool, kNumber, kText, kList, kObject };
  using List = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // in the order written

  Json() = default;
  Json(bool value) : kind_(Kind::kBool), number_(value) {}
  Json(double value) : kind_(Kind::kNumber), number_(value) {}
  Json(int value) : Json(static_cast<double>(value)) {}
  Json(long long value) : Json(static_cast<double>(value)) {}
  Json(const char* value) : kind_(Kind::kText), text_(value) {}
  Json(std::string value) : kind_(Kind::kText), text_(std::move(value)) {}
  Json(List value) : kind_(Kind::kList), list_(std::move(value)) {}
  Json(Object value) : kind_(Kind::kObject), object_(std::move(value)) {}

  // Throws std::invalid_argument for what is no JSON.
  static Json parse(const std::string& text);
  std::string dump() const;

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  // Each throws std::invalid_argument for another kind.
  bool truth() const;
  double number() const;
  const std::string& text() const;
  const List& list() const;
  const Object& object() const;

  // The value of a key, null where there is none.
  const Json& operator[](const std::string& key) const;
  bool has(const std::string& key) const;
  void set(const std::string& key, Json value);

 private:
  void write(std::string& out) const;

  Kind kind_ = Kind::kNull;
  double number_ = 0;
  std::string text_;
  List list_;
  Object object_;
};

}  // namespace edgedistill
