#include "heat.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <vector>

#include "machine.h"

namespace edgedistill {
namespace {

namespace fs = std::filesystem;

const char* const kDumpsys = "/system/bin/dumpsys";
const char* const kStatus[] = {"none", "light", "moderate", "severe", "critical", "emergency", "shutdown"};
const char* const kPiFlags[] = {"under-voltage", "frequency capped", "throttled", "soft temperature limit"};

Json optional(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

bool digits(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

// The folders /sys/class/KIND/NAME* in the order of their names.
std::vector<fs::path> devices(const std::string& kind, const std::string& name) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/sys/class/" + kind, error)) {
    if (entry.path().filename().string().rfind(name, 0) == 0) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string text_of(const fs::path& path) { return read_text(path.string()); }

// What Android's service `name` reports; empty elsewhere.
std::string report(const char* name) {
  if (access(kDumpsys, X_OK) != 0) return "";
  std::FILE* pipe = popen((std::string(kDumpsys) + " " + name + " 2>/dev/null").c_str(), "r");
  if (!pipe) return "";
  std::string text;
  char piece[4096];
  for (size_t count; (count = std::fread(piece, 1, sizeof piece, pipe)) > 0;) text.append(piece, count);
  pclose(pipe);
  return text;
}

std::optional<double> zones_c() {
  std::optional<double> hottest;
  for (const auto& zone : devices("thermal", "thermal_zone")) {
    std::string text = text_of(zone / "temp");
    if (!digits(text)) continue;
    double degrees = std::stod(text) / 1000;
    if (degrees > 0 && degrees < 150) hottest = std::max(hottest.value_or(degrees), degrees);
  }
  return hottest;
}

// The most that the system lets the clock reach now.
std::optional<double> clock_limit_mhz(int cpu) {
  std::string khz = read_text("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpufreq/scaling_max_freq");
  return digits(khz) ? std::optional<double>(std::stod(khz) / 1000) : std::nullopt;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out.empty() ? "none" : out;
}

// Linux' cooling devices that lower a clock, as far as one of them does so now.
std::optional<std::string> cooling() {
  bool found = false;
  std::vector<std::string> held;
  for (const auto& device : devices("thermal", "cooling_device")) {
    std::string kind = text_of(device / "type"), now = text_of(device / "cur_state"), most = text_of(device / "max_state");
    bool slows = kind == "Processor" || kind.find("cpufreq") != std::string::npos || kind.find("devfreq") != std::string::npos;
    if (!slows || !digits(now) || !digits(most)) continue;
    found = true;
    if (std::stol(now) > 0) held.push_back(kind + " at " + now + " of " + most);
  }
  return found ? std::optional<std::string>(joined(held)) : std::nullopt;
}

std::optional<std::string> throttle(const std::string& thermal) {
  if (auto status = android_status(thermal)) return status;
  std::string flags = read_text("/sys/devices/platform/soc/soc:firmware/get_throttled");
  char* end = nullptr;
  unsigned long bits = std::strtoul(flags.c_str(), &end, 16);
  if (!flags.empty() && *end == 0) {
    std::vector<std::string> held;
    for (size_t bit = 0; bit < std::size(kPiFlags); ++bit) {
      if (bits >> bit & 1) held.emplace_back(kPiFlags[bit]);
    }
    return joined(held);
  }
  return cooling();
}

// The charge in percent, and whether it is being charged or kept full; nulls without a battery.
std::pair<Json, Json> battery() {
  const std::string power = report("battery");
  std::smatch level;
  if (std::regex_search(power, level, std::regex(R"(level: (\d+))"))) {
    std::smatch source;
    bool told = std::regex_search(power, std::regex(R"((AC|USB|Wireless|Dock) powered: (true|false))"));
    bool powered = std::regex_search(power, std::regex(R"((AC|USB|Wireless|Dock) powered: true)"));
    return {Json(std::stod(level[1])), told ? Json(powered) : Json()};
  }
  for (const auto& supply : devices("power_supply", "")) {
    std::string charge = text_of(supply / "capacity");
    if (text_of(supply / "type") != "Battery" || text_of(supply / "scope") == "Device" || !digits(charge)) continue;
    std::string status = text_of(supply / "status");
    Json charging;
    if (status == "Charging" || status == "Full" || status == "Not charging") charging = Json(true);
    if (status == "Discharging") charging = Json(false);
    return {Json(std::stod(charge)), charging};
  }
  return {Json(), Json()};
}

}  // namespace

std::optional<std::string> android_status(const std::string& thermal) {
  std::smatch found;
  if (!std::regex_search(thermal, found, std::regex(R"(Thermal Status: (\d+))"))) return std::nullopt;
  size_t number = std::stoul(found[1]);
  return number < std::size(kStatus) ? kStatus[number] : "status " + found[1].str();
}

std::optional<double> android_temperature_c(const std::string& thermal) {
  std::optional<double> hottest;
  const std::regex processor(R"(mValue=([\d.]+), mType=0,)");
  for (std::sregex_iterator at(thermal.begin(), thermal.end(), processor), end; at != end; ++at) {
    double degrees = std::stod((*at)[1]);
    if (degrees > 0 && degrees < 150) hottest = std::max(hottest.value_or(degrees), degrees);
  }
  return hottest;
}

Json::Object heat(int cpu) {
  const std::string thermal = report("thermalservice");
  std::optional<double> temperature_c = zones_c();
  if (!temperature_c) temperature_c = android_temperature_c(thermal);
  std::optional<std::string> held = throttle(thermal);
  auto [percent, charging] = battery();
  return Json::Object{{"temperature_c", optional(temperature_c)},
                      {"clock_limit_mhz", optional(clock_limit_mhz(cpu))},
                      {"throttle", held ? Json(*held) : Json()},
                      {"battery_percent", percent},
                      {"charging", charging}};
}

}  // namespace edgedistill
