// From decoded RGBA to what the model takes: the steps of contract.json, to the byte as Python computes them.

import Foundation

/// Pixels in rows, `channels` bytes each: 4 for RGBA that is not premultiplied, 3 for RGB.
public struct Pixels: Equatable {
    public let width: Int
    public let height: Int
    public let channels: Int
    public let data: [UInt8]

    /// Traps where `data` is not of that size.
    public init(width: Int, height: Int, channels: Int, data: [UInt8]) {
        precondition(channels == 3 || channels == 4, "pixels are RGB or RGBA")
        precondition(data.count == width * height * channels, "pixels of another size")
        (self.width, self.height, self.channels, self.data) = (width, height, channels, data)
    }
}

public enum Filter: String, Codable {
    case bilinear, bicubic
}

/// A step of `preparation` in contract.json.
public enum Step: Decodable, Equatable {
    case orient
    case composite(background: [UInt8])
    case centerSquare
    case resize(width: Int, height: Int, filter: Filter)

    private enum Key: String, CodingKey {
        case step, background, width, height, filter, antialias
    }

    /// Throws for a step that this version does not know.
    public init(from decoder: Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        let name = try values.decode(String.self, forKey: .step)
        switch name {
        case "orient":
            self = .orient
        case "composite":
            self = .composite(background: try values.decode([UInt8].self, forKey: .background))
        case "crop":
            self = .centerSquare
        case "resize":
            guard try values.decode(Bool.self, forKey: .antialias) else {
                throw DecodingError.dataCorruptedError(
                    forKey: .antialias, in: values, debugDescription: "a resize without antialias is not supported")
            }
            self = .resize(
                width: try values.decode(Int.self, forKey: .width), height: try values.decode(Int.self, forKey: .height),
                filter: try values.decode(Filter.self, forKey: .filter))
        default:
            throw DecodingError.dataCorruptedError(
                forKey: .step, in: values, debugDescription: "unknown step \(name): update this kit")
        }
    }
}

/// All steps but `orient`, which is for whoever decodes the file: upright RGBA or RGB in, RGB of the model's size out.
public func prepare(_ pixels: Pixels, _ steps: [Step]) -> Pixels {
    steps.reduce(pixels) { pixels, step in
        switch step {
        case .orient: return pixels
        case .composite(let background): return composite(pixels, on: background)
        case .centerSquare: return centerSquare(pixels)
        case .resize(let width, let height, let filter): return resize(pixels, width, height, filter)
        }
    }
}

/// (a c + (255 - a) b) / 255 for each channel c with alpha a on a background b, rounded to the nearest.
public func composite(_ pixels: Pixels, on background: [UInt8]) -> Pixels {
    if pixels.channels == 3 { return pixels }
    var rgb = [UInt8](repeating: 0, count: pixels.width * pixels.height * 3)
    for index in 0..<(pixels.width * pixels.height) {
        let alpha = Int(pixels.data[4 * index + 3])
        for channel in 0..<3 {
            let sum = alpha * Int(pixels.data[4 * index + channel]) + (255 - alpha) * Int(background[channel])
            rgb[3 * index + channel] = UInt8((2 * sum + 255) / 510)
        }
    }
    return Pixels(width: pixels.width, height: pixels.height, channels: 3, data: rgb)
}

/// The largest square in the middle; an odd pixel is lost at the right or at the bottom.
public func centerSquare(_ pixels: Pixels) -> Pixels {
    let side = min(pixels.width, pixels.height)
    let (left, top) = ((pixels.width - side) / 2, (pixels.height - side) / 2)
    var cut: [UInt8] = []
    cut.reserveCapacity(side * side * pixels.channels)
    for row in 0..<side {
        let from = ((top + row) * pixels.width + left) * pixels.channels
        cut += pixels.data[from..<(from + side * pixels.channels)]
    }
    return Pixels(width: side, height: side, channels: pixels.channels, data: cut)
}

/// Pillow's resize: first horizontally, then vertically, each pass rounded to bytes.
public func resize(_ pixels: Pixels, _ width: Int, _ height: Int, _ filter: Filter) -> Pixels {
    var data = pixels.data
    if width != pixels.width {
        data = alongRows(data, pixels.width, pixels.height, pixels.channels, Taps(pixels.width, width, filter))
    }
    if height != pixels.height {
        data = alongColumns(data, width * pixels.channels, Taps(pixels.height, height, filter))
    }
    return Pixels(width: width, height: height, channels: pixels.channels, data: data)
}

/// For each output position: the first input that counts, and the weights from there, in units of 2^-22.
private struct Taps {
    static let bits = 22
    var first: [Int] = []
    var weights: [[Int]] = []

    init(_ from: Int, _ to: Int, _ filter: Filter) {
        let scale = Double(from) / Double(to)
        let stretch = max(scale, 1)
        let support = (filter == .bilinear ? 1 : 2) * stretch
        for place in 0..<to {
            let center = (Double(place) + 0.5) * scale
            let low = max(Int(center - support + 0.5), 0)
            let high = min(Int(center + support + 0.5), from)
            let own = (low..<high).map { kernel((Double($0) - center + 0.5) * (1 / stretch), filter) }
            let sum = own.reduce(0, +)
            first.append(low)
            weights.append(own.map { Int($0 / sum * Double(1 << Taps.bits) + ($0 < 0 ? -0.5 : 0.5)) })
        }
    }
}

private func kernel(_ x: Double, _ filter: Filter) -> Double {
    let d = abs(x)
    if filter == .bilinear { return d < 1 ? 1 - d : 0 }
    let a = -0.5
    if d < 1 { return ((a + 2) * d - (a + 3)) * d * d + 1 }
    if d < 2 { return (((d - 5) * d + 8) * d - 4) * a }
    return 0
}

private func byte(_ sum: Int) -> UInt8 {
    UInt8(clamping: (sum + 1 << (Taps.bits - 1)) >> Taps.bits)
}

private func alongRows(_ data: [UInt8], _ width: Int, _ height: Int, _ channels: Int, _ taps: Taps) -> [UInt8] {
    let side = taps.first.count
    var out = [UInt8](repeating: 0, count: side * height * channels)
    for row in 0..<height {
        for place in 0..<side {
            let from = (row * width + taps.first[place]) * channels
            for channel in 0..<channels {
                var sum = 0
                for (index, weight) in taps.weights[place].enumerated() {
                    sum += weight * Int(data[from + index * channels + channel])
                }
                out[(row * side + place) * channels + channel] = byte(sum)
            }
        }
    }
    return out
}

private func alongColumns(_ data: [UInt8], _ line: Int, _ taps: Taps) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(taps.first.count * line)
    for place in 0..<taps.first.count {
        var sums = [Int](repeating: 0, count: line)
        for (index, weight) in taps.weights[place].enumerated() {
            let from = (taps.first[place] + index) * line
            for x in 0..<line { sums[x] += weight * Int(data[from + x]) }
        }
        out += sums.map(byte)
    }
    return out
}

/// Pixels turned upright from the EXIF orientation that their file states, 1 to 8; anything else leaves them as they are.
public func upright(_ pixels: Pixels, orientation: Int) -> Pixels {
    let (w, h) = (pixels.width, pixels.height)
    let turned = (5...8).contains(orientation)
    let (width, height) = turned ? (h, w) : (w, h)
    func source(_ x: Int, _ y: Int) -> (Int, Int) {
        switch orientation {
        case 2: return (w - 1 - x, y)
        case 3: return (w - 1 - x, h - 1 - y)
        case 4: return (x, h - 1 - y)
        case 5: return (y, x)
        case 6: return (y, h - 1 - x)
        case 7: return (w - 1 - y, h - 1 - x)
        case 8: return (w - 1 - y, x)
        default: return (x, y)
        }
    }
    if !(2...8).contains(orientation) { return pixels }
    var data: [UInt8] = []
    data.reserveCapacity(pixels.data.count)
    for y in 0..<height {
        for x in 0..<width {
            let (from, row) = source(x, y)
            let place = (row * w + from) * pixels.channels
            data += pixels.data[place..<(place + pixels.channels)]
        }
    }
    return Pixels(width: width, height: height, channels: pixels.channels, data: data)
}
