#include "picture.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <string>

namespace edgedistill {
namespace {

constexpr int kBits = 22;

// (a c + (255 - a) b) / 255 for each channel c with alpha a on a background b, rounded to the nearest.
Pixels composite(const Pixels& pixels, const Json& background) {
  if (pixels.channels == 3) return pixels;
  Pixels rgb{pixels.width, pixels.height, 3, std::vector<uint8_t>(pixels.width * pixels.height * 3)};
  unsigned behind[3];
  for (size_t channel = 0; channel < 3; ++channel) behind[channel] = static_cast<unsigned>(background.list().at(channel).number());
  for (size_t place = 0; place < pixels.width * pixels.height; ++place) {
    const unsigned alpha = pixels.data[4 * place + 3];
    for (size_t channel = 0; channel < 3; ++channel) {
      const unsigned sum = alpha * pixels.data[4 * place + channel] + (255 - alpha) * behind[channel];
      rgb.data[3 * place + channel] = static_cast<uint8_t>((2 * sum + 255) / 510);
    }
  }
  return rgb;
}

// The largest square in the middle; an odd pixel is lost at the right or at the bottom.
Pixels center_square(const Pixels& pixels) {
  const size_t side = std::min(pixels.width, pixels.height);
  const size_t left = (pixels.width - side) / 2, top = (pixels.height - side) / 2, line = side * pixels.channels;
  Pixels cut{side, side, pixels.channels, std::vector<uint8_t>(side * line)};
  for (size_t row = 0; row < side; ++row) {
    auto from = pixels.data.begin() + static_cast<std::ptrdiff_t>(((top + row) * pixels.width + left) * pixels.channels);
    std::copy(from, from + static_cast<std::ptrdiff_t>(line), cut.data.begin() + static_cast<std::ptrdiff_t>(row * line));
  }
  return cut;
}

double kernel(double x, bool bilinear) {
  const double d = std::abs(x), a = -0.5;
  if (bilinear) return d < 1 ? 1 - d : 0;
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
  return 0;
}

// For each output position the first input that counts, and the weights from there in units of 2^-22: Pillow's own
// (src/libImaging/Resample.c), so that bytes are equal.
struct Taps {
  std::vector<size_t> first;
  std::vector<std::vector<int>> weights;

  Taps(size_t from, size_t to, bool bilinear) : first(to), weights(to) {
    const double scale = static_cast<double>(from) / static_cast<double>(to), stretch = std::max(scale, 1.0);
    const double support = (bilinear ? 1 : 2) * stretch;
    for (size_t place = 0; place < to; ++place) {
      const double center = (static_cast<double>(place) + 0.5) * scale;
      const int low = std::max(static_cast<int>(center - support + 0.5), 0);
      const int high = std::min(static_cast<int>(center + support + 0.5), static_cast<int>(from));
      first[place] = static_cast<size_t>(low);
      std::vector<double> own;
      double sum = 0;
      for (int x = low; x < high; ++x) {
        own.push_back(kernel((x - center + 0.5) * (1 / stretch), bilinear));
        sum += own.back();
      }
      for (double one : own) {
        weights[place].push_back(static_cast<int>(one / sum * (1 << kBits) + (one < 0 ? -0.5 : 0.5)));
      }
    }
  }
};

uint8_t byte(int sum) { return static_cast<uint8_t>(std::clamp((sum + (1 << (kBits - 1))) >> kBits, 0, 255)); }

Pixels along_rows(const Pixels& pixels, size_t width, bool bilinear) {
  const Taps taps(pixels.width, width, bilinear);
  Pixels out{width, pixels.height, pixels.channels, std::vector<uint8_t>(width * pixels.height * pixels.channels)};
  for (size_t row = 0; row < pixels.height; ++row) {
    for (size_t place = 0; place < width; ++place) {
      const auto& own = taps.weights[place];
      const uint8_t* from = pixels.data.data() + (row * pixels.width + taps.first[place]) * pixels.channels;
      for (size_t channel = 0; channel < pixels.channels; ++channel) {
        int sum = 0;
        for (size_t i = 0; i < own.size(); ++i) sum += own[i] * from[i * pixels.channels + channel];
        out.data[(row * width + place) * pixels.channels + channel] = byte(sum);
      }
    }
  }
  return out;
}

Pixels along_columns(const Pixels& pixels, size_t height, bool bilinear) {
  const Taps taps(pixels.height, height, bilinear);
  const size_t line = pixels.width * pixels.channels;
  Pixels out{pixels.width, height, pixels.channels, std::vector<uint8_t>(height * line)};
  std::vector<int> sums(line);
  for (size_t place = 0; place < height; ++place) {
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t i = 0; i < taps.weights[place].size(); ++i) {
      const uint8_t* from = pixels.data.data() + (taps.first[place] + i) * line;
      for (size_t x = 0; x < line; ++x) sums[x] += taps.weights[place][i] * from[x];
    }
    for (size_t x = 0; x < line; ++x) out.data[place * line + x] = byte(sums[x]);
  }
  return out;
}

Pixels resized(Pixels pixels, const Json& step) {
  const auto width = static_cast<size_t>(step["width"].number()), height = static_cast<size_t>(step["height"].number());
  const bool bilinear = step["filter"].text() == "bilinear";
  if (width != pixels.width) pixels = along_rows(pixels, width, bilinear);
  if (height != pixels.height) pixels = along_columns(pixels, height, bilinear);
  return pixels;
}

}  // namespace

Pixels prepared(Pixels pixels, const Json& steps) {
  for (const Json& step : steps.list()) {
    const std::string& name = step["step"].text();
    if (name == "orient") continue;  // what decodes a file does it
    if (name == "composite") {
      pixels = composite(pixels, step["background"]);
    } else if (name == "crop") {
      pixels = center_square(pixels);
    } else if (name == "resize" && step["antialias"].truth()) {
      pixels = resized(std::move(pixels), step);
    } else {
      throw std::invalid_argument("nothing is known of the step " + step.dump());
    }
  }
  return pixels;
}

std::vector<char> tensor_bytes(const Pixels& pixels, bool channels_last) {
  if (channels_last) return {pixels.data.begin(), pixels.data.end()};
  const size_t plane = pixels.width * pixels.height;
  std::vector<char> out(3 * plane);
  for (size_t place = 0; place < plane; ++place) {
    for (size_t channel = 0; channel < 3; ++channel) {
      out[channel * plane + place] = static_cast<char>(pixels.data[3 * place + channel]);
    }
  }
  return out;
}

Pixels random_pixels(size_t width, size_t height) {
  std::mt19937 generator(0);
  Pixels pixels{width, height, 4, std::vector<uint8_t>(width * height * 4)};
  for (uint8_t& level : pixels.data) level = static_cast<uint8_t>(generator() & 255);
  return pixels;
}

}  // namespace edgedistill
