#include "json.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace edgedistill {
namespace {

constexpr int kDeepest = 64;

class Parser {
 public:
  explicit Parser(const std::string& text) : at_(text.c_str()), end_(at_ + text.size()) {}

  Json whole() {
    Json value = any(0);
    blanks();
    if (at_ != end_) fail("more behind the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* what) { throw std::invalid_argument(std::string("no JSON: ") + what); }

  void blanks() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }

  bool take(const char* word) {
    size_t length = std::strlen(word);
    if (static_cast<size_t>(end_ - at_) < length || std::strncmp(at_, word, length) != 0) return false;
    at_ += length;
    return true;
  }

  Json any(int depth) {
    if (depth > kDeepest) fail("too deep");
    blanks();
    if (at_ == end_) fail("it ends early");
    if (*at_ == '{') return object(depth);
    if (*at_ == '[') return list(depth);
    if (*at_ == '"') return Json(text());
    if (take("true")) return Json(true);
    if (take("false")) return Json(false);
    if (take("null")) return Json();
    char* after = nullptr;
    double value = std::strtod(at_, &after);
    if (after == at_ || after > end_ || !std::isfinite(value)) fail("an unknown word");
    at_ = after;
    return Json(value);
  }

  Json object(int depth) {
    Json::Object found;
    ++at_;
    blanks();
    if (take("}")) return Json(std::move(found));
    do {
      blanks();
      if (at_ == end_ || *at_ != '"') fail("a key is a text");
      std::string key = text();
      blanks();
      if (!take(":")) fail("no colon behind a key");
      found.emplace_back(std::move(key), any(depth + 1));
      blanks();
    } while (take(","));
    if (!take("}")) fail("an object does not end");
    return Json(std::move(found));
  }

  Json list(int depth) {
    Json::List found;
    ++at_;
    blanks();
    if (take("]")) return Json(std::move(found));
    do {
      found.push_back(any(depth + 1));
      blanks();
    } while (take(","));
    if (!take("]")) fail("a list does not end");
    return Json(std::move(found));
  }

  unsigned code() {
    if (end_ - at_ < 4) fail("a text does not end");
    char digits[5] = {at_[0], at_[1], at_[2], at_[3], 0};
    char* after = nullptr;
    unsigned value = static_cast<unsigned>(std::strtoul(digits, &after, 16));
    if (after != digits + 4) fail("an unknown escape");
    at_ += 4;
    return value;
  }

  static void encode(unsigned value, std::string& out) {
    if (value < 0x80) {
      out += static_cast<char>(value);
    } else if (value < 0x800) {
      out += static_cast<char>(0xC0 | value >> 6);
      out += static_cast<char>(0x80 | (value & 0x3F));
    } else if (value < 0x10000) {
      out += static_cast<char>(0xE0 | value >> 12);
      out += static_cast<char>(0x80 | (value >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (value & 0x3F));
    } else {
      out += static_cast<char>(0xF0 | value >> 18);
      out += static_cast<char>(0x80 | (value >> 12 & 0x3F));
      out += static_cast<char>(0x80 | (value >> 6 & 0x3F));
      out += static_cast<char>(0x80 | (value & 0x3F));
    }
  }

  std::string text() {
    std::string found;
    ++at_;
    while (true) {
      if (at_ == end_) fail("a text does not end");
      char next = *at_++;
      if (next == '"') return found;
      if (next != '\\') {
        found += next;
        continue;
      }
      if (at_ == end_) fail("a text does not end");
      switch (char kind = *at_++) {
        case 'n': found += '\n'; break;
        case 't': found += '\t'; break;
        case 'r': found += '\r'; break;
        case 'b': found += '\b'; break;
        case 'f': found += '\f'; break;
        case 'u': {
          unsigned value = code();
          if (value >= 0xD800 && value < 0xDC00 && take("\\u")) {
            value = 0x10000 + ((value - 0xD800) << 10) + (code() - 0xDC00);
          }
          encode(value, found);
          break;
        }
        default: found += kind;
      }
    }
  }

  const char* at_;
  const char* end_;
};

void write_text(const std::string& text, std::string& out) {
  out += '"';
  for (unsigned char next : text) {
    if (next == '"' || next == '\\') {
      out += '\\';
      out += static_cast<char>(next);
    } else if (next < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", next);
      out += escaped;
    } else {
      out += static_cast<char>(next);
    }
  }
  out += '"';
}

const Json kNothing;

}  // namespace

Json Json::parse(const std::string& text) { return Parser(text).whole(); }

std::string Json::dump() const {
  std::string out;
  write(out);
  return out;
}

void Json::write(std::string& out) const {
  switch (kind_) {
    case Kind::kNull: out += "null"; return;
    case Kind::kBool: out += number_ != 0 ? "true" : "false"; return;
    case Kind::kText: write_text(text_, out); return;
    case Kind::kNumber: {
      char digits[40];
      bool whole = std::floor(number_) == number_ && std::fabs(number_) < 9e15;
      std::snprintf(digits, sizeof digits, whole ? "%.0f" : "%.17g", number_);
      out += std::isfinite(number_) ? digits : "null";
      return;
    }
    case Kind::kList: {
      out += '[';
      for (size_t i = 0; i < list_.size(); ++i) {
        if (i) out += ',';
        list_[i].write(out);
      }
      out += ']';
      return;
    }
    case Kind::kObject: {
      out += '{';
      for (size_t i = 0; i < object_.size(); ++i) {
        if (i) out += ',';
        write_text(object_[i].first, out);
        out += ':';
        object_[i].second.write(out);
      }
      out += '}';
      return;
    }
  }
}

bool Json::truth() const {
  if (kind_ != Kind::kBool) throw std::invalid_argument("true or false is wanted");
  return number_ != 0;
}

double Json::number() const {
  if (kind_ != Kind::kNumber) throw std::invalid_argument("a number is wanted");
  return number_;
}

const std::string& Json::text() const {
  if (kind_ != Kind::kText) throw std::invalid_argument("a text is wanted");
  return text_;
}

const Json::List& Json::list() const {
  if (kind_ != Kind::kList) throw std::invalid_argument("a list is wanted");
  return list_;
}

const Json::Object& Json::object() const {
  if (kind_ != Kind::kObject) throw std::invalid_argument("an object is wanted");
  return object_;
}

const Json& Json::operator[](const std::string& key) const {
  for (const auto& [name, value] : object_) {
    if (name == key) return value;
  }
  return kNothing;
}

bool Json::has(const std::string& key) const {
  for (const auto& entry : object_) {
    if (entry.first == key) return true;
  }
  return false;
}

void Json::set(const std::string& key, Json value) {
  kind_ = Kind::kObject;
  for (auto& [name, old] : object_) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  object_.emplace_back(key, std::move(value));
}

}  // namespace edgedistill
