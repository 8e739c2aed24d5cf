import Foundation

@testable import Classifier

#if canImport(CPNG)
import CPNG

/// RGBA of a PNG, by libpng: Linux has no decoder in its libraries.
func decoded(_ file: [UInt8]) throws -> Pixels {
    var image = png_image()
    image.version = UInt32(PNG_IMAGE_VERSION)
    defer { png_image_free(&image) }
    guard png_image_begin_read_from_memory(&image, file, file.count) != 0 else {
        throw PackageError(description: "this is no PNG")
    }
    image.format = 3  // PNG_FORMAT_RGBA, a macro that Swift does not import
    let (width, height) = (Int(image.width), Int(image.height))
    var data = [UInt8](repeating: 0, count: width * height * 4)
    guard png_image_finish_read(&image, nil, &data, 0, nil) != 0 else {
        throw PackageError(description: "this PNG is damaged")
    }
    return Pixels(width: width, height: height, channels: 4, data: data)
}
#else
func decoded(_ file: [UInt8]) throws -> Pixels {
    try decode(Data(file))
}
#endif
