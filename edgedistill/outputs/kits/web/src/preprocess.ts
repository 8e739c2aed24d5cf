// From decoded RGBA to what the model takes: the steps of contract.json, to the byte as Python computes them.

export type Filter = "bilinear" | "bicubic";

/** A step of `preparation` in contract.json. */
export type Step =
  | { step: "orient"; by: "exif" }
  | { step: "composite"; background: [number, number, number] }
  | { step: "crop"; to: "center_square" }
  | { step: "resize"; width: number; height: number; filter: Filter; antialias: boolean };

/** Pixels in rows, `channels` bytes each: 4 for RGBA that is not premultiplied, 3 for RGB. */
export interface Pixels {
  width: number;
  height: number;
  channels: 3 | 4;
  data: Uint8Array | Uint8ClampedArray;
}

/**
 * All steps but `orient`, which is for whoever decodes the file: upright RGBA or RGB in, RGB of the model's size out.
 * Throws for a step that this version does not know.
 */
export function prepare(pixels: Pixels, steps: readonly Step[]): Pixels {
  return steps.reduce(apply, pixels);
}

function apply(pixels: Pixels, step: Step): Pixels {
  switch (step.step) {
    case "orient":
      return pixels;
    case "composite":
      return composite(pixels, step.background);
    case "crop":
      return centerSquare(pixels);
    case "resize":
      if (!step.antialias) throw new Error("a resize without antialias is not supported");
      return resize(pixels, step.width, step.height, step.filter);
    default:
      throw new Error(`unknown step ${JSON.stringify(step)}: update this kit`);
  }
}

/** (a c + (255 - a) b) / 255 for each channel c with alpha a on a background b, rounded to the nearest. */
export function composite(pixels: Pixels, background: readonly number[]): Pixels {
  if (pixels.channels === 3) return pixels;
  const { width, height, data } = pixels;
  const rgb = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    const alpha = data[from + 3];
    for (let channel = 0; channel < 3; channel++) {
      const sum = alpha * data[from + channel] + (255 - alpha) * background[channel];
      rgb[to + channel] = Math.floor((2 * sum + 255) / 510);
    }
  }
  return { width, height, channels: 3, data: rgb };
}

/** The largest square in the middle; an odd pixel is lost at the right or at the bottom. */
export function centerSquare(pixels: Pixels): Pixels {
  const { width, height, channels, data } = pixels;
  const side = Math.min(width, height);
  const left = Math.floor((width - side) / 2);
  const top = Math.floor((height - side) / 2);
  const cut = new Uint8Array(channels * side * side);
  for (let row = 0; row < side; row++) {
    const from = channels * ((top + row) * width + left);
    cut.set(data.subarray(from, from + channels * side), channels * side * row);
  }
  return { width: side, height: side, channels, data: cut };
}

/** Pillow's resize: first horizontally, then vertically, each pass rounded to bytes. */
export function resize(pixels: Pixels, width: number, height: number, filter: Filter): Pixels {
  let { data } = pixels;
  const { channels } = pixels;
  if (width !== pixels.width) {
    const taps = weights(pixels.width, width, filter);
    data = alongRows(data, pixels.width, pixels.height, channels, taps);
  }
  if (height !== pixels.height) {
    const taps = weights(pixels.height, height, filter);
    data = alongColumns(data, width, channels, taps);
  }
  return { width, height, channels, data };
}

/** For each output position: the first input that counts, and the weights from there, in units of 2^-22. */
interface Taps {
  first: Int32Array;
  weights: Int32Array[];
}

const BITS = 22;
const ONE = 2 ** BITS;
const SUPPORT: Record<Filter, number> = { bilinear: 1, bicubic: 2 };

function kernel(x: number, filter: Filter): number {
  const d = Math.abs(x);
  if (filter === "bilinear") return d < 1 ? 1 - d : 0;
  const a = -0.5;
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
  return 0;
}

function weights(from: number, to: number, filter: Filter): Taps {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT[filter] * stretch;
  const taps: Taps = { first: new Int32Array(to), weights: [] };
  for (let place = 0; place < to; place++) {
    const center = (place + 0.5) * scale;
    const low = Math.max(Math.trunc(center - support + 0.5), 0);
    const high = Math.min(Math.trunc(center + support + 0.5), from);
    const own = new Float64Array(high - low);
    let sum = 0;
    for (let i = 0; i < own.length; i++) {
      own[i] = kernel((i + low - center + 0.5) * (1 / stretch), filter);
      sum += own[i];
    }
    taps.first[place] = low;
    taps.weights.push(Int32Array.from(own, (one) => Math.trunc((one / sum) * ONE + (one < 0 ? -0.5 : 0.5))));
  }
  return taps;
}

function byte(sum: number): number {
  return Math.min(Math.max(Math.floor((sum + ONE / 2) / ONE), 0), 255);
}

function alongRows(data: Pixels["data"], width: number, height: number, channels: number, taps: Taps): Uint8Array {
  const side = taps.first.length;
  const out = new Uint8Array(side * height * channels);
  for (let row = 0; row < height; row++) {
    for (let place = 0; place < side; place++) {
      const own = taps.weights[place];
      const from = (row * width + taps.first[place]) * channels;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let i = 0; i < own.length; i++) sum += own[i] * data[from + i * channels + channel];
        out[(row * side + place) * channels + channel] = byte(sum);
      }
    }
  }
  return out;
}

function alongColumns(data: Pixels["data"], width: number, channels: number, taps: Taps): Uint8Array {
  const line = width * channels;
  const out = new Uint8Array(taps.first.length * line);
  const sums = new Float64Array(line);
  for (let place = 0; place < taps.first.length; place++) {
    const own = taps.weights[place];
    sums.fill(0);
    for (let i = 0; i < own.length; i++) {
      const from = (taps.first[place] + i) * line;
      for (let x = 0; x < line; x++) sums[x] += own[i] * data[from + x];
    }
    for (let x = 0; x < line; x++) out[place * line + x] = byte(sums[x]);
  }
  return out;
}

/** RGB in rows as the model's tensor: one plane a channel (NCHW), or as they are (NHWC). */
export function tensorData(pixels: Pixels, layout: "NCHW" | "NHWC"): Uint8Array {
  if (layout === "NHWC") return Uint8Array.from(pixels.data);
  const plane = pixels.width * pixels.height;
  const planes = new Uint8Array(3 * plane);
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++) planes[channel * plane + i] = pixels.data[3 * i + channel];
  }
  return planes;
}
