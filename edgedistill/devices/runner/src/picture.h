// From a decoded picture to what a model takes: the steps of contract.json, to the byte as Python computes them
// (data/preprocessing.py; documents/package.py describes the steps).
#pragma once

#include <cstdint>
#include <vector>

#include "json.h"

namespace edgedistill {

// Rows of pixels, `channels` bytes each: 4 for RGBA that is not premultiplied, 3 for RGB.
struct Pixels {
  size_t width, height, channels;
  std::vector<uint8_t> data;
};

// Upright pixels after all steps. Throws std::invalid_argument for a step that is not known.
Pixels prepared(Pixels pixels, const Json& steps);
// RGB as the model's tensor: one plane a channel, or as they are (`channels_last`).
std::vector<char> tensor_bytes(const Pixels& pixels, bool channels_last);
// Seeded RGBA of a size.
Pixels random_pixels(size_t width, size_t height);

}  // namespace edgedistill
