#if canImport(ImageIO) && canImport(Accelerate)
import Accelerate
import Foundation
import ImageIO

/// Upright RGBA of a picture file, not premultiplied. Throws for a file that the system cannot decode.
public func decode(_ file: Data) throws -> Pixels {
    let options = [kCGImageSourceShouldCache: false] as CFDictionary
    guard let source = CGImageSourceCreateWithData(file as CFData, options),
        let image = CGImageSourceCreateImageAtIndex(source, 0, options)
    else { throw PackageError(description: "this file is no picture that the system can decode") }
    let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
    let orientation = (properties?[kCGImagePropertyOrientation] as? NSNumber)?.intValue ?? 1
    return upright(try pixels(image), orientation: orientation)
}

/// RGBA of an image as it is stored, not premultiplied. Levels of grey and RGB stay as they are, whatever their colour space:
/// the model was trained on such. Other colours are converted to sRGB.
public func pixels(_ image: CGImage) throws -> Pixels {
    if let grey = image.colorSpace, grey.model == .monochrome {
        let bytes = try converted(image, grey, channels: 2)
        let data = stride(from: 0, to: bytes.count, by: 2).flatMap { [bytes[$0], bytes[$0], bytes[$0], bytes[$0 + 1]] }
        return Pixels(width: image.width, height: image.height, channels: 4, data: data)
    }
    let rgb = image.colorSpace.flatMap { $0.model == .rgb ? $0 : nil } ?? CGColorSpace(name: CGColorSpace.sRGB)!
    return Pixels(width: image.width, height: image.height, channels: 4, data: try converted(image, rgb, channels: 4))
}

/// Rows of bytes in that colour space, with an alpha that nothing is multiplied by as the last channel.
private func converted(_ image: CGImage, _ space: CGColorSpace, channels: Int) throws -> [UInt8] {
    let alpha = CGBitmapInfo(rawValue: CGImageAlphaInfo.last.rawValue)
    guard
        let format = vImage_CGImageFormat(
            bitsPerComponent: 8, bitsPerPixel: 8 * channels, colorSpace: space, bitmapInfo: alpha),
        let buffer = try? vImage_Buffer(cgImage: image, format: format)
    else { throw PackageError(description: "this picture has a format that cannot be converted to RGBA") }
    defer { buffer.free() }
    return (0..<image.height).flatMap { row in
        let start = buffer.data.advanced(by: row * buffer.rowBytes).assumingMemoryBound(to: UInt8.self)
        return UnsafeBufferPointer(start: start, count: image.width * channels)
    }
}
#endif
